#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/manifest_check.hpp"
#include "krul/store/lending.hpp"
#include "krul/store/manifest_store.hpp"

namespace krul {

/// What was erased that nobody needed.
struct Garbage {
  std::size_t segments = 0;
  std::size_t loans = 0;  ///< to forks that are no more, or need less than was lent

  [[nodiscard]] std::size_t objects() const noexcept { return segments + loans; }
};

namespace detail {

/// The segments of a lender's folder that a fork's manifest names, sorted; none if it cannot be told what that names,
/// as after a save that was cut off, where an older copy may yet be needed.
template <ConversationStore S>
[[nodiscard]] std::optional<std::vector<std::string>> needed_segments(S& store, const std::string& fork,
                                                                      const std::string& lender) {
  const auto loaded = load_manifest(store, fork, ManifestCopies::both, ManifestOfFolder{fork});
  if (!loaded && loaded.error().code == ErrorCode::not_found) return std::vector<std::string>{};
  if (!loaded || !loaded->repaired.empty()) return std::nullopt;
  auto borrowed = borrowed_segments(loaded->manifest);
  const auto found = std::ranges::find(borrowed, lender, &Borrowed::folder);
  return found == borrowed.end() ? std::vector<std::string>{} : std::move(found->segments);
}

/// Ends the loans to a fork for what it does not need; what it needs is lent at any moment. Call it under the lender's
/// lock, and the fork's.
/// @param names  all objects of the lender's folder
/// @return       how many were ended
template <ConversationStore S>
[[nodiscard]] Result<std::size_t> end_unneeded_loans(S& store, const std::string& lender, const std::string& fork,
                                                     const std::vector<std::string>& names) {
  const auto needed = needed_segments(store, fork, lender);
  if (!needed) return 0;
  const auto content = loan_content(*needed);
  const std::string wanted = needed->empty() ? std::string() : loan_name(fork, content);
  bool is_lent = needed->empty() || std::ranges::find(names, wanted) != names.end();
  std::size_t ended = 0;
  for (const std::string& name : names) {
    if (fork_of_loan(name) != fork || name == wanted) continue;
    if (!is_lent)
      if (auto status = store.put(lender + "/" + wanted, content); !status) return propagate(status);
    is_lent = true;
    if (auto status = store.erase(lender + "/" + name); !status) return propagate(status);
    ++ended;
  }
  return ended;
}

/// Erases what nobody needs of a folder; nothing if its manifest is damaged or cannot be read now.
template <ConversationStore S>
[[nodiscard]] Result<std::size_t> collect_segments(S& store, const std::string& folder) {
  const auto loaded = load_manifest(store, folder, ManifestCopies::both, ManifestOfFolder{folder});
  if (!loaded && loaded.error().code != ErrorCode::not_found) return propagate(loaded);
  if (!loaded) return collect_garbage(store, folder, Manifest{});
  if (loaded->damaged || loaded->unread) return 0;
  if (!loaded->repaired.empty())  // the older copy names what will be erased
    if (const auto published = publish_manifest(store, folder, loaded->manifest); !published)
      return propagate(published);
  return collect_garbage(store, folder, loaded->manifest);
}

}  // namespace detail

/// Ends the loans that a folder made to a fork, but for what the fork needs, and erases what nobody needs there any
/// more. What cannot be done now is left to collect_folder. Call it under the lender's lock, and the fork's.
template <ConversationStore S>
void end_loans(S& store, const std::string& lender, const std::string& fork) {
  const auto names = store.list(lender);
  if (names && detail::end_unneeded_loans(store, lender, fork, *names))
    static_cast<void>(detail::collect_segments(store, lender));
}

/// Ends the loans of a folder to forks that are no more, or need less than was lent. Call it under the folder's lock.
/// @return how many were ended; loans to forks that somebody writes stay. What the store says if it cannot list the
///         folder, lock a fork or erase a loan
template <ConversationStore S>
[[nodiscard]] Result<std::size_t> end_stale_loans(S& store, const std::string& folder) {
  const auto names = store.list(folder);
  if (!names) return propagate(names);
  std::size_t all = 0;
  for (const std::string& fork : borrowers(*names)) {
    // Who makes a fork has its lock from before the loan until its manifest is there.
    const auto writer = store.lock(fork);
    if (!writer && writer.error().code == ErrorCode::busy) continue;
    if (!writer) return propagate(writer);
    const auto ended = detail::end_unneeded_loans(store, folder, fork, *names);
    if (!ended) return propagate(ended);
    all += *ended;
  }
  return all;
}

/// Erases what nobody needs of one folder: what saves and erases left that were cut off, and loans to forks that are
/// no more or need less now, with what was lent. A conversation of which a copy of the manifest is damaged is left as
/// it is, and so are loans to forks that somebody writes.
/// @return busy if somebody writes the conversation; as load_manifest but for not_found, as lent_segments, and what the
///         store says
template <ConversationStore S>
[[nodiscard]] Result<Garbage> collect_folder(S& store, const std::string& folder) {
  const auto lock = store.lock(folder);
  if (!lock) return propagate(lock);
  const auto loans = end_stale_loans(store, folder);
  if (!loans) return propagate(loans);
  const auto segments = detail::collect_segments(store, folder);
  if (!segments) return propagate(segments);
  return Garbage{.segments = *segments, .loans = *loans};
}

}  // namespace krul
