#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "krul/conversation/manifest_check.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// What was erased that nobody needed.
struct Garbage {
  std::size_t segments = 0;
  std::size_t loans = 0;  ///< to forks that are no more, or need nothing of it now

  [[nodiscard]] std::size_t objects() const noexcept { return segments + loans; }
};

namespace detail {

/// Whether a fork's manifest names something in the lender's folder; true where that cannot be told.
template <ConversationStore S>
[[nodiscard]] bool may_borrow(S& store, const std::string& fork, const std::string& lender) {
  const auto loaded = load_manifest(store, fork, ManifestCopies::both, ManifestOfFolder{fork});
  if (!loaded) return loaded.error().code != ErrorCode::not_found;
  return std::ranges::any_of(borrowed_segments(loaded->manifest),
                             [&](const Borrowed& borrowed) { return borrowed.folder == lender; });
}

/// Erases what nobody needs of a folder; nothing if its manifest is damaged or cannot be read now.
template <ConversationStore S>
[[nodiscard]] Result<std::size_t> collect_segments(S& store, const std::string& folder) {
  const auto loaded = load_manifest(store, folder, ManifestCopies::both, ManifestOfFolder{folder});
  if (!loaded && loaded.error().code != ErrorCode::not_found) return propagate(loaded);
  if (loaded && (loaded->damaged || loaded->unread)) return 0;
  return collect_garbage(store, folder, loaded ? loaded->manifest : Manifest{});
}

}  // namespace detail

/// Ends the loans that a folder made to a fork, and erases what nobody needs there any more. What cannot be done now is
/// left to collect_folder. Call it under the lender's lock, once the fork's manifest is gone.
template <ConversationStore S>
void end_loans(S& store, const std::string& lender, std::string_view fork) {
  for (const std::string& name : store.list(lender).value_or(std::vector<std::string>()))
    if (fork_of_loan(name) == fork) static_cast<void>(store.erase(lender + "/" + name));
  static_cast<void>(detail::collect_segments(store, lender));
}

/// Erases what nobody needs of one folder: what saves and erases left that were cut off, and loans to forks that are
/// no more, with what was lent. A conversation of which a copy of the manifest is damaged is left as it is.
/// @return busy if somebody writes the conversation; as load_manifest but for not_found, and what the store says
template <ConversationStore S>
[[nodiscard]] Result<Garbage> collect_folder(S& store, const std::string& folder) {
  const auto lock = store.lock(folder);
  if (!lock) return propagate(lock);
  const auto names = store.list(folder);
  if (!names) return propagate(names);
  Garbage garbage;
  for (const std::string& name : *names) {
    const std::string fork(fork_of_loan(name));
    if (fork.empty() || detail::may_borrow(store, fork, folder)) continue;
    if (auto status = store.erase(folder + "/" + name); !status) return propagate(status);
    ++garbage.loans;
  }
  const auto segments = detail::collect_segments(store, folder);
  if (!segments) return propagate(segments);
  garbage.segments = *segments;
  return garbage;
}

}  // namespace krul
