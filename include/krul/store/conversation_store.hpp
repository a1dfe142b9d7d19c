#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"

namespace krul {

/// What a store promises beyond the calls themselves.
struct StoreCapabilities {
  bool durable = false;       ///< what put acknowledged survives a crash and a loss of power
  bool shared = false;        ///< other processes see it
  bool distant = false;       ///< each call is a round trip: what can be asked for together should be
  std::uint64_t largest = 0;  ///< bytes of the largest object; 0: no limit of its own
};

/// True for 32 hexadecimal digits in lower case.
[[nodiscard]] constexpr bool is_store_folder(std::string_view folder) noexcept {
  return folder.size() == 32 && folder.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// True for 1 to 64 of [a-z0-9.-], not starting with a dot.
[[nodiscard]] constexpr bool is_object_name(std::string_view object) noexcept {
  return !object.empty() && object.size() <= 64 && object.front() != '.' &&
         object.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-") == std::string_view::npos;
}

/// True if `key` is "folder/object" with is_store_folder(folder) and is_object_name(object).
/// krul makes every key itself (conversation ids are hashed), so a key can always be a file name.
[[nodiscard]] constexpr bool is_store_key(std::string_view key) noexcept {
  return key.size() > 33 && key[32] == '/' && is_store_folder(key.substr(0, 32)) && is_object_name(key.substr(33));
}

/// Whether a get that failed so says that what was written is lost. What could only not be read (no right to, too many
/// open files, something else in its place) may be whole.
[[nodiscard]] constexpr bool means_damage(ErrorCode code) noexcept {
  return code == ErrorCode::not_found || code == ErrorCode::corrupt || code == ErrorCode::truncated ||
         code == ErrorCode::medium;
}

/// Whether a distant store that failed so may be out of reach. What it was asked to do may be done.
[[nodiscard]] constexpr bool is_out_of_reach(ErrorCode code) noexcept {
  return code == ErrorCode::io || code == ErrorCode::deadline;
}

/// Holds byte objects under keys. Objects are written whole and never changed in place.
///
///   put(key, bytes)           all or nothing: afterwards the object is the old one or the new one, never a mix;
///                             too_large beyond capabilities().largest
///   get(key, offset, to)      fills `to` completely, or fails: not_found, truncated, medium, io, deadline
///   size(key)                 bytes of the object, or not_found
///   erase(key)                succeeds also if it was not there
///   list(folder)              object names of one folder, sorted; list("") the folders that hold an object, or may
///                             as far as can be told, sorted
///   lock(folder)              the only writer of a folder, until the Lock dies; busy if another one is. Where it can
///                             be lost, as over a network, put and erase in the folder fail with busy from then on
///
/// krul publishes data first and the manifest last, with length and XXH3-128 of every chunk in it, so that a store
/// needs neither transactions nor checksums. Stores over a network do more of it at once: see ranged_reads.hpp,
/// object_sizes.hpp, whole_object.hpp. All calls may come from several threads at once. check_store in conformance.hpp
/// proves a store.
/// @throws PreconditionError from every call whose key is not is_store_key, or whose folder is not is_store_folder
template <class S>
concept ConversationStore = requires(S& store, const std::string& key, std::span<const std::byte> bytes,
                                     std::span<std::byte> to, std::uint64_t offset) {
  typename S::Lock;
  { store.put(key, bytes) } -> std::same_as<Status>;
  { store.get(key, offset, to) } -> std::same_as<Status>;
  { store.size(key) } -> std::same_as<Result<std::uint64_t>>;
  { store.erase(key) } -> std::same_as<Status>;
  { store.list(key) } -> std::same_as<Result<std::vector<std::string>>>;
  { store.lock(key) } -> std::same_as<Result<typename S::Lock>>;
  { store.capabilities() } -> std::same_as<StoreCapabilities>;
};

}  // namespace krul
