#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "client.hpp"
#include "listing.hpp"

namespace krul::s3 {

/// Uploads an object, in parts if it is large.
/// @param condition  a header that has to hold for the object that is replaced: "If-None-Match: *", "If-Match: ..." or
///                   nothing
/// @return the object's ETag; busy if the condition does not hold. A request whose answer was lost counts as what it
///         did
[[nodiscard]] Result<std::string> put_object(Client& client, const std::string& key, std::span<const std::byte> bytes,
                                             const std::string& condition, const std::string& action);

/// All objects whose keys begin so, and with `delimiter` only what of their keys comes before it after the prefix,
/// once each. A million at most: too_large.
[[nodiscard]] Result<std::vector<Listed>> list_objects(Client& client, const std::string& prefix,
                                                       const std::string& delimiter, const std::string& action);

/// Succeeds also if it was not there.
[[nodiscard]] Status erase_object(Client& client, const std::string& key, const std::string& action,
                                  const RequestLimits& limits = {});

/// Throws away what uploads in parts left behind whose keys begin so. What cannot be done is left.
void abort_uploads(Client& client, const std::string& prefix);

}  // namespace krul::s3
