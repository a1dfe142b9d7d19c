#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace krul::redis {

/// The most parts an object has.
inline constexpr std::uint64_t most_parts = 65536;

/// An entry of a folder's index: how large an object is, and where its bytes are.
struct Version {
  std::uint64_t size = 0;  ///< bytes
  std::uint64_t part = 0;  ///< bytes of each part but the last
  std::string name;        ///< 32 hexadecimal digits, never given twice

  [[nodiscard]] std::uint64_t parts() const { return size == 0 ? 0 : (size - 1) / part + 1; }
  [[nodiscard]] std::string entry() const;
  friend bool operator==(const Version&, const Version&) = default;
};

/// @return none if it is not what Version::entry writes, or claims what cannot be
[[nodiscard]] std::optional<Version> parse_version(std::string_view entry);

/// The names of a folder's keys.
struct FolderKeys {
  std::string start;  ///< PREFIX:{FOLDER}:

  FolderKeys(std::string_view prefix, std::string_view folder);
  [[nodiscard]] std::string objects() const { return start + "objects"; }
  [[nodiscard]] std::string lock() const { return start + "lock"; }
  [[nodiscard]] std::string parts() const { return start + "part:"; }
  [[nodiscard]] std::string part(const Version& version, std::uint64_t index) const;
};

}  // namespace krul::redis
