#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// Gives back all that a folder lent to a fork that was erased. What only that fork needed is erased where the lender
/// is erased, too; else the lender's next save does that. What cannot be done now is left to collect_folder. Call it
/// under the lender's lock, and the fork's.
template <ConversationStore Store>
void give_back(Store& store, const std::string& lender, const std::string& fork) {
  const auto names = store.list(lender);
  if (!names) return;
  bool is_erased = true;
  for (const std::string& name : *names) {
    is_erased = is_erased && !is_manifest_name(name);
    if (fork_of_loan(name) == fork && !store.erase(lender + "/" + name)) return;
  }
  if (is_erased) static_cast<void>(collect_garbage(store, lender, Manifest{}));
}

/// Whether a fork borrows from a lender, as far as can be told.
template <ConversationStore Store>
[[nodiscard]] bool may_borrow(Store& store, const std::string& fork, const std::string& lender) {
  const auto saved = load_manifest(store, fork);
  if (!saved) return saved.error().code != ErrorCode::not_found;
  const auto borrowed = borrowed_segments(saved->manifest);
  return !saved->repaired.empty() || std::ranges::find(borrowed, lender, &Borrowed::folder) != borrowed.end();
}

/// Gives back what a folder lent to forks that have gone while somebody else wrote it. Call it under its lock.
template <ConversationStore Store>
void give_back_all(Store& store, const std::string& lender) {
  const auto names = store.list(lender);
  if (!names) return;
  for (const std::string& fork : borrowers(*names)) {
    // Who makes a fork has its lock from before the loan until its manifest is there.
    const auto lock = store.lock(fork);
    if (lock && !may_borrow(store, fork, lender)) give_back(store, lender, fork);
  }
}

}  // namespace krul
