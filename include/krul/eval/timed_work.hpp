#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/eval/continuation.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "krul/eval/restore_once.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/page_cache.hpp"

namespace krul::eval {

/// The made-up text that engines are compared on: the token at position i is 100 + (7919 i mod min(40000, vocabulary -
/// 100)), the same for every engine.
/// @throws PreconditionError if the vocabulary has not more than 100 tokens
[[nodiscard]] inline std::vector<Token> made_up_text(TokenRange positions, std::size_t vocabulary) {
  expects(vocabulary > 100, "made_up_text: a vocabulary of more than 100 tokens");
  const std::size_t range = std::min<std::size_t>(40000, vocabulary - 100);
  std::vector<Token> tokens;
  for (std::size_t i = positions.begin; i < positions.end; ++i)
    tokens.push_back(static_cast<Token>(100 + 7919 * i % range));
  return tokens;
}

/// What a return to the made-up text took until the first token, in seconds.
struct TimedReturn {
  double seconds = 0;
  Token first = 0;                      ///< the most likely token after it
  std::optional<RestoreReport> report;  ///< none: all was computed
};

struct TimedSave {
  double seconds = 0;
  std::uint64_t bytes = 0;
};

struct TimedText {
  double seconds = 0;
  std::vector<Token> tokens;
  std::vector<std::array<float, 2>> best;  ///< [tokens] the two largest logits that each was chosen from
};

/// The steps that engines are compared by, each timed alone: what a step presumes is done before, and not timed. Each
/// begins by forgetting all that was computed, and returns invalid_argument where there are no tokens to run and
/// too_large where they do not fit.
template <ModelBackend B, Clock C = SteadyClock>
class TimedWork {
 public:
  /// @param room  tokens that there is room for
  TimedWork(B& model, std::size_t room, C clock = {})
      : model_(model),
        clock_(std::move(clock)),
        batch_(model.make_batch()),
        cache_(model.make_cache(room)),
        logits_(model.geometry().vocabulary) {}

  [[nodiscard]] std::size_t room() const { return cache_.capacity(); }

  /// Runs the first tokens of the made-up text in one call.
  /// @return seconds
  [[nodiscard]] Result<double> prefill(std::size_t count) {
    cache_.truncate(0);
    return timed([&, tokens = text({0, count})] { run(tokens); });
  }

  /// Runs `count` more one at a time, behind a history.
  /// @return seconds of all
  [[nodiscard]] Result<double> decode(std::size_t history, std::size_t count) {
    if (auto ready = remember(history); !ready) return propagate(ready);
    return timed([&, tokens = text({history, history + count})] {
      for (const Token& token : tokens) run(std::span(&token, 1));
    });
  }

  /// Saves a history, as one that stands in the cache.
  [[nodiscard]] Result<TimedSave> save(AnyStore& store, std::size_t history, const SaveAs& as) {
    if (auto ready = remember(history); !ready) return propagate(ready);
    std::uint64_t bytes = 0;
    const auto seconds = timed([&, tokens = text({0, history})] {
      bytes = or_throw(save_as(model_, store, cache_, std::span<const Token>(tokens), as)).bytes;
    });
    if (!seconds) return propagate(seconds);
    return TimedSave{*seconds, bytes};
  }

  /// The same into a folder, which is made if it is not there and not forced to the medium.
  [[nodiscard]] Result<TimedSave> save(const std::filesystem::path& folder, std::size_t history, const SaveAs& as) {
    auto opened = FileStore::open(folder, {.durability = Durability::none});
    if (!opened) return propagate(opened);
    AnyStore store = std::move(*opened);
    return save(store, history, as);
  }

  /// Restores what save has saved, and runs `prompt` tokens behind it.
  /// @param saved  under which id, by which strategy and for which costs
  /// @return       not_found if the saved state is not of this history; as restore_once
  [[nodiscard]] Result<TimedReturn> restore(AnyStore& store, Returning saved, std::size_t history, std::size_t prompt) {
    saved.tokens = text({0, history + prompt});
    auto restored = restore_once(model_, store, saved, 1, clock_);
    if (!restored) return propagate(restored);
    if (restored->figure.report.matched != history)
      return fail(ErrorCode::not_found, "the saved state does not hold these tokens; save first");
    return TimedReturn{restored->figure.first_token_s, krul::greedy(restored->logits),
                       std::move(restored->figure.report)};
  }

  /// The same from a folder, which is dropped from the page cache before.
  [[nodiscard]] Result<TimedReturn> restore(const std::filesystem::path& folder, Returning saved, std::size_t history,
                                            std::size_t prompt) {
    auto opened = FileStore::open(folder, {.create = false});
    if (!opened) return propagate(opened);
    drop_from_page_cache(folder);
    AnyStore store = std::move(*opened);
    return restore(store, std::move(saved), history, prompt);
  }

  /// The same without anything saved.
  [[nodiscard]] Result<TimedReturn> recompute(std::size_t history, std::size_t prompt) {
    const auto seconds = prefill(history + prompt);
    if (!seconds) return propagate(seconds);
    return TimedReturn{*seconds, krul::greedy(logits_), {}};
  }

  /// The most likely tokens after a prompt, past any end of a turn.
  [[nodiscard]] Result<TimedText> greedy(std::span<const Token> prompt, std::size_t count) {
    cache_.truncate(0);
    TimedText found;
    const auto choose = [&](std::span<const float> logits) {
      std::vector<float> ordered(logits.begin(), logits.end());
      std::ranges::nth_element(ordered, ordered.begin() + 1, std::greater{});
      found.best.push_back({ordered[0], ordered[1]});
      return std::optional(krul::greedy(logits));
    };
    const auto seconds = timed([&] {
      run(prompt);
      found.tokens = or_throw(chosen_text(std::span<const float>(logits_), count, choose, [&](const Token& token) {
        run(std::span(&token, 1));
        return Status();
      }));
    });
    if (!seconds) return propagate(seconds);
    found.seconds = *seconds;
    return found;
  }

  /// All logits of some tokens.
  /// @param logits  [tokens, vocabulary]
  /// @return        seconds
  /// @throws        as forward
  [[nodiscard]] Result<double> all_logits(std::span<const Token> tokens, std::span<float> logits) {
    cache_.truncate(0);
    return timed([&] {
      expect_room(tokens);
      forward(model_, cache_, batch_, tokens, logits);
    });
  }

 private:
  [[nodiscard]] std::vector<Token> text(TokenRange positions) const {
    return made_up_text(positions, model_.geometry().vocabulary);
  }

  /// @return seconds, or what the work has thrown of what it failed with
  template <class Work>
  [[nodiscard]] Result<double> timed(Work&& work) {
    try {
      return seconds_taken(clock_, work);
    } catch (const ResultError& failed) {
      return tl::unexpected(failed.error);
    }
  }

  void expect_room(std::span<const Token> tokens) const {
    if (tokens.empty()) throw ResultError({ErrorCode::invalid_argument, "no tokens to run"});
    if (cache_.length() + tokens.size() > cache_.capacity())
      throw ResultError({ErrorCode::too_large, "the tokens do not fit the context"});
  }

  void run(std::span<const Token> tokens) {
    expect_room(tokens);
    krul::prefill(model_, cache_, batch_, tokens, logits_);
  }

  /// A history in the cache, and nothing else.
  [[nodiscard]] Status remember(std::size_t history) {
    cache_.truncate(0);
    if (history == 0) return {};
    const auto seconds = prefill(history);
    if (!seconds) return propagate(seconds);
    return {};
  }

  B& model_;
  C clock_;
  typename B::Batch batch_;
  typename B::Cache cache_;
  std::vector<float> logits_;
};

}  // namespace krul::eval
