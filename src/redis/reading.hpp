#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client.hpp"
#include "krul/core/error.hpp"
#include "krul/store/ranged_reads.hpp"

namespace krul::redis {

/// The requests for a part of an object, in its version.
void ask_for_pieces(const Client& client, const RangedRead& read, const Version& version,
                    std::vector<Request>& requests);

/// Whether a piece is there: true, or false if the whole part is gone.
/// @return what went wrong otherwise; truncated if some of the part is there
[[nodiscard]] Result<bool> is_there(const Request& piece, const std::string& key);

/// The error of an object that the index names and of which a part is gone.
[[nodiscard]] tl::unexpected<Error> part_is_gone(const std::string& key);

/// Does many reads: first in the versions that are known, then in those that the server names.
void read_together(Client& client, std::span<const RangedRead> reads, const RequestLimits& limits,
                   const ReadEnd& ended);

}  // namespace krul::redis
