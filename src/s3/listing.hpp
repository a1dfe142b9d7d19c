#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "krul/core/error.hpp"

namespace krul::s3 {

/// An object in a listing.
struct Listed {
  std::string key;
  std::string etag;  ///< empty if it may not be sent back
  std::uint64_t bytes = 0;
};

/// A part of a listing.
struct ListingPage {
  std::vector<Listed> listed;
  bool has_more = false;
  std::string next;  ///< where the listing goes on if it does; not empty then
};

/// Reads an answer to ListObjectsV2 with encoding-type=url. Keys that do not begin with the prefix are left out.
/// @param action  for sentences: "list folder ..."
/// @return corrupt or io if it is none
[[nodiscard]] Result<ListingPage> read_listing(std::span<const std::byte> page, const std::string& prefix,
                                               const std::string& action);

/// An upload in parts that was neither completed nor thrown away.
struct ListedUpload {
  std::string key;
  std::string id;
};

/// Reads an answer to ListMultipartUploads. What cannot be an upload of krul's under the prefix is left out.
/// @return corrupt if it is none
[[nodiscard]] Result<std::vector<ListedUpload>> read_uploads(std::span<const std::byte> page,
                                                             const std::string& prefix);

}  // namespace krul::s3
