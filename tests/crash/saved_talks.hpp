#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/conversation/saved_conversations.hpp"
#include "krul/conversation/verify.hpp"
#include "krul/core/checksum.hpp"
#include "krul/store/file_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"

namespace krul::test {

/// How many rounds random crashes are tried for: KRUL_CRASH_ROUNDS, or a number that takes seconds.
inline std::size_t crash_rounds(std::size_t by_default) {
  const char* const wanted = std::getenv("KRUL_CRASH_ROUNDS");
  return wanted ? std::strtoull(wanted, nullptr, 10) : by_default;
}

/// What is saved of one of several talks: the first tokens of the text that it then had. No tokens: nothing is saved.
struct TalkState {
  std::size_t text = 0;  ///< another one after each erase
  std::size_t tokens = 0;

  friend bool operator==(const TalkState&, const TalkState&) = default;
};

inline std::string as_text(const TalkState& state) {
  return state.tokens == 0 ? "nothing" : std::to_string(state.tokens) + " tokens of text " + std::to_string(state.text);
}

/// What a look at a saved talk found.
struct FoundTalk {
  std::optional<TalkState> state = {};  ///< none if no copy of its manifest is whole
  bool is_whole = true;                 ///< all bytes are as they were written
  bool is_loaded = true;                ///< no row had to be recomputed
  std::string wrong = {};               ///< what must never be, if anything is
};

/// Talks of the toy model about texts that follow from their numbers: so it is known what each must hold.
class SavedTalks {
 public:
  static constexpr std::size_t longest = 96;  ///< tokens

  SavedTalks() {
    options_.strategy = strategy::by_layer("exact", ExactCodec{}, FullLoad{});
    options_.block = 16;
  }

  static std::string id(std::size_t talk) { return "talk " + std::to_string(talk); }
  static std::string folder(std::size_t talk) { return conversation_folder(id(talk)).value(); }

  /// Opens a talk for writing, restores it, goes on with its text up to `state`, calls begin(), and saves that.
  /// @return the checksum of the rows that are saved
  template <class Begin>
  Result<Checksum> save(FileStore& store, std::size_t talk, const TalkState& state, Begin&& begin) {
    auto opened = Conversation<toy::Backend, FileStore>::open(model_, store, id(talk), options_);
    if (!opened) return propagate(opened);
    const auto restored = opened->advance(std::span(text(talk, state)).first(state.tokens), logits_);
    if (!restored) return propagate(restored);
    begin();
    if (const auto saved = opened->save(); !saved) return propagate(saved);
    return rows_of(opened->cache(), state.tokens);
  }
  Result<Checksum> save(FileStore& store, std::size_t talk, const TalkState& state) {
    return save(store, talk, state, [] {});
  }
  /// Opens a talk for writing and closes it: what was cut off is finished then.
  Status finish(FileStore& store, std::size_t talk) {
    const auto opened = Conversation<toy::Backend, FileStore>::open(model_, store, id(talk), options_);
    return opened ? Status{} : propagate(opened);
  }
  static Status erase(FileStore& store, std::size_t talk) {
    const auto erased = erase_saved(store, id(talk));
    if (!erased) return erased.error().code == ErrorCode::not_found ? Status{} : propagate(erased);
    return erased->status;
  }

  /// What is saved of a talk, every byte of it read, and restored: it has to be one of these states, and the rows have
  /// to be those of its text.
  FoundTalk look(FileStore& store, std::size_t talk, std::span<const TalkState> expected) {
    const auto is_expected = [&](const auto& is_it) { return std::find_if(expected.begin(), expected.end(), is_it); };
    const auto saved = load_saved(store, id(talk));
    if (!saved && saved.error().code == ErrorCode::not_found) {
      const auto nothing = is_expected([](const TalkState& state) { return state.tokens == 0; });
      if (nothing == expected.end()) return {.wrong = "nothing is there"};
      return {.state = *nothing};
    }
    if (!saved && saved.error().code == ErrorCode::corrupt)
      return {.state = std::nullopt, .is_whole = false, .is_loaded = false};
    if (!saved) return {.wrong = "it cannot be read: " + saved.error().message};
    const std::vector<Token>& tokens = saved->manifest.tokens;
    const auto state = is_expected([&](const TalkState& of) {
      return of.tokens == tokens.size() && std::equal(tokens.begin(), tokens.end(), text(talk, of).begin());
    });
    if (state == expected.end()) return {.wrong = std::to_string(tokens.size()) + " tokens that should not be there"};
    FoundTalk found{.state = *state};

    const auto report = verify_conversation(store, folder(talk));
    if (!report) return {.wrong = "it cannot be verified: " + report.error().message};
    if (!report->unread.empty()) return {.wrong = "it cannot be read: " + report->unread.front()};
    found.is_whole = report->problems.empty();

    auto options = options_;
    options.read_only = true;
    auto opened = Conversation<toy::Backend, FileStore>::open(model_, store, id(talk), options);
    if (!opened) return {.wrong = "it cannot be opened: " + opened.error().message};
    const auto restored = opened->advance(tokens, logits_);
    if (!restored) return {.wrong = "it cannot be restored: " + restored.error().message};
    if (rows_of(opened->cache(), tokens.size()) != rows(talk, *found.state)) return {.wrong = "rows are wrong"};
    // Its last token is run again, for the logits.
    found.is_loaded = restored->loaded_rows == (tokens.size() - 1) * model_.geometry().layers;
    if ((restored->repaired_rows > 0 || restored->recomputed_all) && restored->reasons.empty())
      return {.wrong = "rows were recomputed, and no reason is given"};
    return found;
  }

  /// The checksum of the rows that a talk has in a state.
  Checksum rows(std::size_t talk, const TalkState& state) {
    if (runs_.size() > 100) runs_.clear();
    auto& run = runs_[{talk, state.text}];
    if (!run) run.emplace(run_through(model_, text(talk, state)));
    return rows_of(run->cache, state.tokens);
  }

 private:
  const std::vector<Token>& text(std::size_t talk, const TalkState& state) {
    if (texts_.size() > 1000) texts_.clear();
    auto& tokens = texts_[{talk, state.text}];
    if (tokens.empty()) tokens = toy_tokens(longest, static_cast<unsigned>(1000 * talk + state.text + 1));
    return tokens;
  }

  Checksum rows_of(const HostKvCache& cache, std::size_t count) const {
    const Geometry geometry = model_.geometry();
    std::vector<std::byte> bytes;
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      const KvRows rows = cache.view(layer);
      for (const auto part : {rows.keys, rows.values})
        bytes.insert(bytes.end(), part.begin(),
                     part.begin() + static_cast<std::ptrdiff_t>(count * geometry.kv_row_bytes()));
    }
    return checksum(bytes);
  }

  using Text = std::pair<std::size_t, std::size_t>;  // talk, text
  toy::Backend model_{ElementType::f32};
  ConversationOptions options_;
  std::vector<float> logits_ = std::vector<float>(model_.geometry().vocabulary);
  std::map<Text, std::vector<Token>> texts_;
  std::map<Text, std::optional<Uninterrupted>> runs_;
};

}  // namespace krul::test
