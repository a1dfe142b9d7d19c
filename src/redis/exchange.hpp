#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "connection.hpp"
#include "krul/core/error.hpp"
#include "krul/store/ranged_reads.hpp"
#include "nodes.hpp"

namespace krul::redis {

/// A command, where it goes, and how it ended. Asked twice it does the same as once.
struct Request {
  Command command;
  std::uint16_t slot = 0;
  std::shared_ptr<Node> node = {};  ///< if it is not the one that the slot says
  Reply reply = {};                 ///< after success: not a null pointer, not an error
  Status status = {};
};

/// Called once for each request, from the calling thread, as soon as it has ended.
using RequestEnd = std::function<void(Request&)>;

/// Asks all at once, in any order, over several connections to each server. Follows MOVED and ASK, waits out TRYAGAIN,
/// and asks once more over a new connection where one broke. Returns when all have ended.
/// @throws what `ended` throws; the other requests are given up then
void exchange(Nodes& nodes, const RedisStoreOptions& options, std::span<Request> requests,
              const RequestLimits& limits = {}, const RequestEnd& ended = {});

}  // namespace krul::redis
