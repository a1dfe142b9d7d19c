#pragma once

#include <future>
#include <string>
#include <utility>

#include "krul/compress/coding_set.hpp"
#include "krul/restore/stored_state.hpp"
#include "krul/store/conversation_store.hpp"
#include "krul/store/manifest.hpp"

namespace krul {

/// Asks a store what of a saved conversation is lost. A distant store is asked by a thread of the check's own, so that
/// a restore can begin as if all were there, and begin again if it is not; any other one is asked at once.
class PresenceCheck {
 public:
  /// The store and the manifest must outlive the check.
  template <ConversationStore S>
  PresenceCheck(S& store, const Manifest& manifest, std::string folder, std::size_t history, CodingSet codings) {
    const bool is_distant = store.capabilities().distant;
    if (is_distant) lost_ = lost_blocks(manifest, {}, history, codings);
    const auto ask = [&store, &manifest, folder = std::move(folder), history, codings = std::move(codings)] {
      return lost_blocks(store, folder, manifest, history, codings);
    };
    if (!is_distant) {
      lost_ = ask();
      return;
    }
    // Where the system gives no thread the store is asked when the answer is wanted.
    answer_ = std::async(std::launch::async | std::launch::deferred, ask);
  }

  /// What is known to be lost.
  [[nodiscard]] const LostBlocks& lost() const noexcept { return lost_; }

  /// Waits for what the store says.
  /// @return whether lost() changed by it, which it does at most once
  /// @throws what the store throws
  [[nodiscard]] bool hears_of_more() {
    if (!answer_.valid()) return false;
    LostBlocks lost = answer_.get();
    const bool is_news = lost != lost_;
    lost_ = std::move(lost);
    return is_news;
  }

 private:
  LostBlocks lost_;
  std::future<LostBlocks> answer_;
};

}  // namespace krul
