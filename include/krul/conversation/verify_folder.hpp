#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/verify.hpp"
#include "krul/core/error.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/other_names.hpp"

namespace krul {

/// What verify_conversation found of one folder of a store, or why it found nothing, as people want to know it.
struct VerifiedFolder {
  Result<VerifyReport> report;
  std::vector<std::string> leftovers = {};  ///< of saves and erases that were cut off, dead writes among them

  /// Whether nothing of a conversation is there.
  [[nodiscard]] bool is_nothing() const {
    return !report && report.error().code == ErrorCode::not_found && leftovers.empty();
  }
  /// An erase, or a first save, that was cut off: K and V of a conversation that no manifest names.
  [[nodiscard]] bool is_unfinished() const {
    return report ? report->conversation.empty() && report->unread.empty()
                  : report.error().code == ErrorCode::not_found;
  }
  /// What is not as it was written: one sentence each.
  [[nodiscard]] std::vector<std::string> problems() const {
    if (report) return report->problems;
    if (report.error().code == ErrorCode::corrupt) return {report.error().message};
    return {};
  }
  /// What could not be read, and may be whole: one sentence each.
  [[nodiscard]] std::vector<std::string> unread() const {
    if (report) return report->unread;
    const ErrorCode code = report.error().code;
    if (code == ErrorCode::busy || code == ErrorCode::not_found || code == ErrorCode::corrupt) return {};
    return {report.error().message};
  }
  /// A conversation of which something has to be recomputed.
  [[nodiscard]] bool is_damaged() const { return report && !report->problems.empty(); }
  /// A conversation that no copy of the manifest tells of any more: nothing can be recomputed.
  [[nodiscard]] bool is_lost() const { return !report && report.error().code == ErrorCode::corrupt; }
  /// "ok", or the worst: "damaged", "unreadable", "unfinished", "being saved".
  [[nodiscard]] std::string state() const {
    if (!problems().empty()) return "damaged";
    if (!unread().empty()) return "unreadable";
    if (is_unfinished()) return "unfinished";
    return report ? "ok" : "being saved";
  }
};

/// What was found of many folders.
struct VerifySummary {
  std::size_t chunks = 0;                                                      ///< that should be there
  bool damaged = false, lost = false, unfinished = false, unreadable = false;  ///< any of them

  void add(const VerifiedFolder& found) {
    if (found.report) chunks += found.report->chunks;
    damaged = damaged || found.is_damaged();
    lost = lost || found.is_lost();
    unfinished = unfinished || found.is_unfinished();
    unreadable = unreadable || !found.unread().empty();
  }
  /// Whether every byte was read and is as it was written, and nothing is left behind.
  [[nodiscard]] bool is_ok() const noexcept { return !(damaged || lost || unfinished || unreadable); }
};

/// verify_conversation for one of many folders: whatever goes wrong there, the others can be looked at as well.
template <ConversationStore S>
[[nodiscard]] VerifiedFolder verify_folder(S& store, const std::string& folder) {
  VerifiedFolder found;
  const auto look = [&](auto&& at_it) {
    try {
      at_it();
    } catch (const std::exception& error) {
      found.report = fail(ErrorCode::io, std::string("it cannot be read: ") + error.what());
    }
  };
  look([&] { found.report = verify_conversation(store, folder); });
  if (found.report) found.leftovers = found.report->leftovers;
  look([&] {
    const auto dead = dead_writes(store, folder);
    if (dead.empty()) return;
    // One that was just made is not locked for a moment.
    const auto still = dead_writes(store, folder);
    std::ranges::copy_if(dead, std::back_inserter(found.leftovers),
                         [&](const std::string& name) { return std::ranges::find(still, name) != still.end(); });
  });
  return found;
}

/// All folders that hold an object or a part of one, sorted.
/// @return whatever the store says if they cannot be listed
template <ConversationStore S>
[[nodiscard]] Result<std::vector<std::string>> folders_to_verify(S& store) {
  auto folders = store.list("");
  if (!folders) return folders;
  for (const std::string& key : dead_writes(store)) folders->push_back(key.substr(0, key.find('/')));
  std::sort(folders->begin(), folders->end());
  folders->erase(std::unique(folders->begin(), folders->end()), folders->end());
  return folders;
}

}  // namespace krul
