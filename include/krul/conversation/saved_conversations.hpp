#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/conversation/garbage.hpp"
#include "krul/conversation/manifest_check.hpp"
#include "krul/conversation/verify_folder.hpp"
#include "krul/core/element_type.hpp"
#include "krul/core/error.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/store/other_names.hpp"

namespace krul {

/// What is saved under an id, for whoever has no model: both copies of the manifest are read, nothing else, and
/// nothing is repaired or locked.
/// @return as conversation_folder and load_manifest: not_found if nothing is saved
template <ConversationStore S>
[[nodiscard]] Result<LoadedManifest> load_saved(S& store, std::string_view id) {
  const auto folder = conversation_folder(id);
  if (!folder) return propagate(folder);
  return load_manifest(store, *folder, ManifestCopies::both, ManifestOfFolder{*folder});
}

/// The element type of the cache that a conversation was saved from; none if that is not said, or not known here.
[[nodiscard]] inline std::optional<ElementType> saved_cache_type(const Manifest& manifest) {
  constexpr std::string_view field = " cache=";
  const std::string_view geometry = manifest.identity.geometry;
  const auto at = geometry.rfind(field);
  if (at == std::string_view::npos) return std::nullopt;
  return element_type_from(geometry.substr(at + field.size()));
}

/// A folder of a store, and what is saved there or why it cannot be read.
struct SavedConversation {
  std::string folder;
  Result<LoadedManifest> saved;
};

/// All conversations of a store, by their folders. One that cannot be read is no reason to leave out the others;
/// folders without a manifest are left out.
/// @return whatever the store says if its folders cannot be listed
template <ConversationStore S>
[[nodiscard]] Result<std::vector<SavedConversation>> saved_conversations(S& store) {
  const auto folders = store.list("");
  if (!folders) return propagate(folders);
  std::vector<SavedConversation> found;
  for (const std::string& folder : *folders) {
    auto saved = load_manifest(store, folder, ManifestCopies::both, ManifestOfFolder{folder});
    if (saved || saved.error().code != ErrorCode::not_found) found.push_back({folder, std::move(saved)});
  }
  return found;
}

/// What became of a conversation that was to be erased.
struct ErasedConversation {
  Status status;                  ///< why not all of it is gone
  std::vector<std::string> left;  ///< names in its folder that are not krul's, and stay, as far as they can be told
  bool is_lent = false;           ///< forks need some of it, which stays until they are erased
};

/// Erases what is saved under an id, whatever is there: a damaged conversation as well, and what a save or an erase
/// left that was cut off. What it has lent to forks stays for them, and what it borrowed as a fork is given back.
/// @return not_found if there is nothing; busy if another process has the conversation; as conversation_folder, and
///         whatever the store says if the folder cannot be listed or locked
/// @post   if all is erased, load_saved finds nothing
template <ConversationStore S>
[[nodiscard]] Result<ErasedConversation> erase_saved(S& store, std::string_view id) {
  const auto folder = conversation_folder(id);
  if (!folder) return propagate(folder);
  const auto objects = conversation_objects(store, *folder);
  if (!objects) return propagate(objects);
  if (objects->empty() && dead_writes(store, *folder).empty())
    return fail(ErrorCode::not_found, "nothing is saved in conversation folder " + *folder);
  const auto lock = store.lock(*folder);
  if (!lock) return propagate(lock);
  const auto before = load_saved(store, id);
  static_cast<void>(end_stale_loans(store, *folder));  // or what forks needed that are gone would be kept for nobody
  ErasedConversation erased{erase_conversation(store, *folder), {}};
  if (before && erased.status)
    for (const Borrowed& borrowed : borrowed_segments(before->manifest))
      if (const auto lender = store.lock(borrowed.folder)) end_loans(store, borrowed.folder, *folder);
  erased.left = foreign_names(store, *folder).value_or(std::vector<std::string>{});
  const auto own = conversation_objects(store, *folder);
  for (const std::string& name : store.list(*folder).value_or(std::vector<std::string>{})) {
    const bool is_own = !own || std::find(own->begin(), own->end(), name) != own->end();
    erased.is_lent = erased.is_lent || !fork_of_loan(name).empty();
    if (!is_own && fork_of_loan(name).empty()) erased.left.push_back(name);
  }
  return erased;
}

}  // namespace krul
