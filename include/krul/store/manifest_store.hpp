#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/store/conversation_store.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest.hpp"
#include "krul/store/segment.hpp"
#include "krul/store/whole_object.hpp"

namespace krul {

/// A manifest is kept twice, so that one damaged byte never loses the token ids, from which all else can be recomputed.
/// The first copy is always written first: it is never older than the second.
inline constexpr std::array<std::string_view, 2> manifest_names = {"manifest-a", "manifest-b"};

[[nodiscard]] inline bool is_manifest_name(std::string_view object) noexcept {
  return std::find(manifest_names.begin(), manifest_names.end(), object) != manifest_names.end();
}

enum class ManifestCopies : std::uint8_t {
  both,         ///< reads both and compares: finds damage to either
  first_valid,  ///< reads the second only if the first is damaged: half the bytes over a slow link
};

/// A check of what a whole copy of a manifest claims, for load_manifest: any will do.
struct AnyManifest {
  [[nodiscard]] Status operator()(const Manifest&) const { return {}; }
};

struct LoadedManifest {
  Manifest manifest;
  std::string repaired = {};  ///< what was wrong with the other copy; empty if nothing. The next publish mends it
  bool damaged = false;       ///< it was wrong because its bytes or claims were: a save that was cut off is no damage
  bool unread = false;        ///< it could not be read, and may be whole
  std::uint64_t bytes = 0;    ///< that were read
};

/// Writes both copies. Call it under the folder's lock, and only after all objects that the manifest names were put.
/// @return the bytes that were written; after a failure the old or the new generation is in force: load_manifest tells
/// which. Erase no object before
///         that; collect_garbage later removes what did not make it.
/// @throws PreconditionError unless validate(manifest) succeeds
template <ConversationStore Store>
[[nodiscard]] Result<std::uint64_t> publish_manifest(Store& store, const std::string& folder,
                                                     const Manifest& manifest) {
  const std::vector<std::byte> bytes = serialize(manifest);
  for (const std::string_view name : manifest_names)
    if (const Status status = store.put(folder + "/" + std::string(name), bytes); !status) return propagate(status);
  return manifest_names.size() * bytes.size();
}

namespace detail {

template <ConversationStore Store>
[[nodiscard]] Result<Manifest> read_manifest(Store& store, const std::string& key, const ManifestLimits& limits,
                                             std::uint64_t& read) {
  // A writer may replace the object while it is read, which then looks damaged: only the third time counts.
  for (int attempt = 0;; ++attempt) {
    const auto bytes = load_object(store, key, limits.bytes);
    if (bytes) read += bytes->size();
    auto manifest = bytes ? parse_manifest(*bytes, limits) : Result<Manifest>(propagate(bytes));
    if (manifest || attempt == 2) return manifest;
    if (manifest.error().code != ErrorCode::corrupt && manifest.error().code != ErrorCode::truncated) return manifest;
  }
}

}  // namespace detail

/// The valid copy of the highest generation. A copy that `check` refuses counts as damaged, whatever its generation.
/// Errors: not_found if the folder has no manifest; unsupported_version if either copy is of a newer krul; corrupt if
/// no copy is valid; whatever the store says if it cannot be read now.
template <ConversationStore Store, class Check = AnyManifest>
[[nodiscard]] Result<LoadedManifest> load_manifest(Store& store, const std::string& folder,
                                                   ManifestCopies copies = ManifestCopies::both,
                                                   const Check& check = {}, const ManifestLimits& limits = {}) {
  std::optional<LoadedManifest> best;
  std::vector<Error> errors;
  std::uint64_t read = 0;
  std::string repaired;
  bool damaged = false, unread = false;
  for (const std::string_view name : manifest_names) {
    auto manifest = detail::read_manifest(store, folder + "/" + std::string(name), limits, read);
    if (manifest)
      if (const Status status = check(*manifest); !status) manifest = propagate(status);
    if (!manifest) {
      if (manifest.error().code == ErrorCode::unsupported_version) return propagate(manifest);
      repaired = "copy " + std::string(name) + " could not be used (" + manifest.error().message + ")";
      const ErrorCode code = manifest.error().code;
      const bool is_wrong = code == ErrorCode::too_large || (means_damage(code) && code != ErrorCode::not_found);
      damaged = damaged || is_wrong;
      unread = unread || !(is_wrong || code == ErrorCode::not_found);
      errors.push_back(std::move(manifest.error()));
      continue;
    }
    if (best && best->manifest.generation != manifest->generation)
      repaired = "the two copies are of generations " + std::to_string(best->manifest.generation) + " and " +
                 std::to_string(manifest->generation) + ", as after a save that was cut off";
    if (!best || manifest->generation > best->manifest.generation)
      best = LoadedManifest{.manifest = std::move(*manifest)};
    if (copies == ManifestCopies::first_valid) break;
  }
  if (best) {
    best->repaired = std::move(repaired);
    best->damaged = damaged;
    best->unread = unread;
    best->bytes = read;
    return std::move(*best);
  }
  const auto is = [](ErrorCode code) { return [code](const Error& error) { return error.code == code; }; };
  if (std::all_of(errors.begin(), errors.end(), is(ErrorCode::not_found)))
    return fail(ErrorCode::not_found,
                "nothing is saved in conversation folder " + folder + "; save the conversation first");
  for (const Error& error : errors)
    if (!is(ErrorCode::not_found)(error) && !is(ErrorCode::corrupt)(error) && !is(ErrorCode::truncated)(error) &&
        !is(ErrorCode::too_large)(error))
      return tl::unexpected<Error>(error);
  const auto& telling = *std::find_if_not(errors.begin(), errors.end(), is(ErrorCode::not_found));
  return fail(ErrorCode::corrupt, "no copy of the manifest in conversation folder " + folder + " is valid (" +
                                      telling.message +
                                      "): restore the folder from a backup, or erase the conversation");
}

/// Segments of the folder that the manifest does not name: what saves and erases left behind that failed or were cut
/// off, and what a save replaced. What is lent to forks is none of them, and whatever has another name than krul gives
/// is somebody else's.
/// @return as lent_segments, and what the store says if it cannot list the folder
/// @complexity  as lent_segments where there are such segments; else one listing
template <ConversationStore Store>
[[nodiscard]] Result<std::vector<std::string>> unnamed_objects(Store& store, const std::string& folder,
                                                               const Manifest& manifest) {
  auto names = store.list(folder);
  if (!names) return names;
  const auto names_it = [&](const std::string& name) {
    return !is_segment_name(name) || std::ranges::find(manifest.objects, name) != manifest.objects.end();
  };
  if (std::ranges::all_of(*names, names_it)) return std::vector<std::string>{};  // nobody has to read what is lent
  const auto lent = lent_segments(store, folder, *names);
  if (!lent) return propagate(lent);
  std::erase_if(*names, [&](const std::string& name) {
    return names_it(name) || std::binary_search(lent->begin(), lent->end(), name);
  });
  return names;
}

namespace detail {

/// Erases what can be erased; the first error, if any, once all was tried.
template <ConversationStore Store>
[[nodiscard]] Status erase_objects(Store& store, const std::string& folder, const std::vector<std::string>& names) {
  Status first;
  for (const std::string& name : names)
    if (Status status = store.erase(folder + "/" + name); !status && first) first = std::move(status);
  return first;
}

}  // namespace detail

/// Erases the folder's unnamed_objects.
/// Call it under the folder's lock, after publish_manifest succeeded. A reader that still holds the manifest before
/// may find chunks gone, and recomputes them.
/// @return how many objects were erased; the first error, once all was tried
template <ConversationStore Store>
[[nodiscard]] Result<std::size_t> collect_garbage(Store& store, const std::string& folder, const Manifest& manifest) {
  const auto names = unnamed_objects(store, folder, manifest);
  if (!names) return propagate(names);
  if (const Status status = detail::erase_objects(store, folder, *names); !status) return propagate(status);
  return names->size();
}

/// Finishes what a save or an erase left undone that was cut off: a manifest of which one copy is missing or older is
/// published again, and then what it does not name is erased. Damaged copies are left for the next save, and so is
/// whatever cannot be read or done now. Call it under the folder's lock with what load_manifest gave of both copies.
/// @post   loaded.repaired is empty if nothing is left to tell
template <ConversationStore Store>
void finish_interrupted(Store& store, const std::string& folder, LoadedManifest& loaded) {
  if (loaded.damaged || loaded.unread) return;
  if (!loaded.repaired.empty() && !publish_manifest(store, folder, loaded.manifest)) return;
  loaded.repaired.clear();
  static_cast<void>(collect_garbage(store, folder, loaded.manifest));
}

/// Names in the folder that krul wrote, but loans: objects that erase_conversation erases unless they are lent.
template <ConversationStore Store>
Result<std::vector<std::string>> conversation_objects(Store& store, const std::string& folder) {
  auto names = store.list(folder);
  if (!names) return names;
  std::erase_if(*names, [](const std::string& name) { return !is_segment_name(name) && !is_manifest_name(name); });
  return names;
}

/// Erases everything that krul wrote in a folder, the manifest first, so that what is left after an interruption is no
/// conversation, or the one that was there; the same call erases that as well. Call it under the folder's lock.
/// @return the first error; then all that could be erased is, unless a manifest is left
template <ConversationStore Store>
[[nodiscard]] Status erase_conversation(Store& store, const std::string& folder) {
  Status first;
  // The first copy last: the other one may be of an older save.
  for (auto name = manifest_names.rbegin(); name != manifest_names.rend(); ++name) {
    const std::string key = folder + "/" + std::string(*name);
    Status status = store.erase(key);
    if (status) continue;
    if (store.size(key)) return status;  // else something that is no object stands in its place
    if (first) first = std::move(status);
  }
  const auto names = unnamed_objects(store, folder, Manifest{});
  Status others = names ? detail::erase_objects(store, folder, *names) : Status(propagate(names));
  return first ? others : first;
}

}  // namespace krul
