#include "folder_keys.hpp"

#include <charconv>
#include <system_error>

#include "krul/store/conversation_store.hpp"

namespace krul::redis {

std::string Version::entry() const {
  return std::to_string(size) + " " + std::to_string(part) + " " + name;
}

std::optional<Version> parse_version(std::string_view entry) {
  Version version;
  for (std::uint64_t* number : {&version.size, &version.part}) {
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), *number);
    if (error != std::errc{} || end == entry.data() + entry.size() || *end != ' ') return {};
    entry.remove_prefix(static_cast<std::size_t>(end - entry.data()) + 1);
  }
  version.name = entry;
  constexpr std::uint64_t least = 1024, most = std::uint64_t{512} << 20;
  const bool is_possible = is_store_folder(entry) && version.part >= least && version.part <= most &&
                           version.size <= version.part * most_parts;
  return is_possible ? std::optional(std::move(version)) : std::nullopt;
}

FolderKeys::FolderKeys(std::string_view prefix, std::string_view folder)
    : start(std::string(prefix) + ":{" + std::string(folder) + "}:") {}

std::string FolderKeys::part(const Version& version, std::uint64_t index) const {
  return parts() + version.name + ":" + std::to_string(index);
}

}  // namespace krul::redis
