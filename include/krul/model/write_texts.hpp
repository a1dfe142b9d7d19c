#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/backend/forward_each.hpp"
#include "krul/core/workers.hpp"
#include "krul/model/chat_format.hpp"
#include "krul/model/repetition.hpp"
#include "krul/model/sampling.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul {

/// How the turns of a chat end and begin, in tokens.
struct TurnMarks {
  std::function<bool(Token)> ends;  ///< whether a turn is over with this token
  std::vector<Token> to_user;       ///< what stands in its place: the assistant's turn ends and the user's begins
  std::vector<Token> to_assistant;  ///< the user's turn ends and the assistant's begins

  /// Those of a model's chat format. Valid as long as the tokenizer.
  [[nodiscard]] static TurnMarks of(const Tokenizer& tokenizer, const ChatFormat& chat) {
    const auto marks = [&](const std::string& end, const std::string& begin) {
      return tokenizer.encode(RenderedText().write(end).write(begin));
    };
    return {[&tokenizer](Token token) { return tokenizer.ends_turn(token); },
            marks(chat.assistant.after, chat.user.before), marks(chat.user.after, chat.generation_prompt)};
  }
};

/// The beginning of a text that a model goes on with.
struct Opening {
  std::vector<Token> tokens;  ///< at least one
  bool user_speaks = false;   ///< the turn in which it ends is the user's, not the assistant's
};

struct WritingSettings {
  std::size_t tokens = 28000;                      ///< of all texts together, with their openings
  std::size_t text = 1024;                         ///< of one text at most
  std::size_t at_once = 32;                        ///< texts
  std::size_t cache_bytes = std::size_t{1} << 30;  ///< of their caches, at most; one text is written in any case
  SamplingOptions sampling = {.temperature = 1, .top_k = 256, .top_p = 0.95};
};

/// What texts are written from.
struct WritingInput {
  std::span<const Opening> openings;  ///< at least one
  const TurnMarks& marks;
};

/// Called after each step with the tokens that there are, and how many there are to be.
using WritingProgress = std::function<void(std::size_t, std::size_t)>;

namespace detail {

/// Writes texts with one model: the steps of write_texts, which share its data.
template <ModelBackend B>
class Writing {
 public:
  Writing(B& model, const WritingInput& input, const WritingSettings& settings, Workers& workers)
      : model_(model), input_(input), settings_(settings), workers_(workers), batch_(model.make_batch()) {
    const Geometry& geometry = model.geometry();
    expects(!input.openings.empty(), "write_texts: no openings");
    for (const Opening& opening : input.openings)
      expects(!opening.tokens.empty(), "write_texts: an opening without tokens");
    longest_ = std::min(settings.text, geometry.context);
    expects(longest_ > 1 && settings.at_once > 0, "write_texts: at least one text of at least two tokens");
    const std::size_t cache_bytes = longest_ * geometry.layers * 2 * geometry.kv_row_bytes();
    const std::size_t count = std::clamp<std::size_t>(settings.cache_bytes / cache_bytes, 1, settings.at_once);
    for (std::size_t i = 0; i < count; ++i) drafts_.push_back({model.make_cache(longest_), Sampler(settings.sampling)});
    logits_.resize(count * geometry.vocabulary);
  }

  std::vector<std::vector<Token>> run(const WritingProgress& progress) {
    for (Draft& draft : drafts_) begin(draft);
    for (std::size_t written = 0; written < settings_.tokens;) {
      step();
      written = 0;
      for (const auto& text : texts_) written += text.size();
      for (const Draft& draft : drafts_) written += draft.tokens.size();
      progress(std::min(written, settings_.tokens), settings_.tokens);
    }
    for (Draft& draft : drafts_) texts_[draft.index] = std::move(draft.tokens);
    return std::move(texts_);
  }

 private:
  struct Draft {
    typename B::Cache cache;  ///< of all tokens but those that come next
    Sampler sampler;
    std::size_t index = 0;  ///< of the text
    std::vector<Token> tokens = {};
    bool user_speaks = false;
  };

  /// The next opening; after the last one the first again, with other random numbers.
  void begin(Draft& draft) {
    draft.index = texts_.size();
    texts_.emplace_back();
    SamplingOptions sampling = settings_.sampling;
    sampling.seed += draft.index;
    draft.sampler = Sampler(sampling);
    const Opening& opening = input_.openings[draft.index % input_.openings.size()];
    draft.tokens.assign(opening.tokens.begin(), opening.tokens.begin() + static_cast<std::ptrdiff_t>(std::min(
                                                                             opening.tokens.size(), longest_ - 1)));
    draft.user_speaks = opening.user_speaks;
    draft.cache.truncate(0);
  }

  /// One token for each draft.
  void step() {
    const std::size_t vocabulary = model_.geometry().vocabulary;
    std::vector<Continuation<typename B::Cache>> parts;
    for (Draft& draft : drafts_)
      parts.push_back({&draft.cache, std::span<const Token>(draft.tokens).subspan(draft.cache.length())});
    forward_each<B>(model_, batch_, parts, logits_);
    workers_.parallel_for(drafts_.size(), [&](std::size_t i, std::size_t) {
      drafts_[i].tokens.push_back(drafts_[i].sampler(std::span(logits_).subspan(i * vocabulary, vocabulary)));
    });
    for (Draft& draft : drafts_)
      if (!goes_on(draft)) {
        texts_[draft.index] = std::move(draft.tokens);
        begin(draft);
      }
  }

  /// Lets the other side speak after a turn's end, which is the template's whatever token it was. False if the text is
  /// over: it is long enough, or it repeats itself.
  [[nodiscard]] bool goes_on(Draft& draft) {
    std::vector<Token>& tokens = draft.tokens;
    if (input_.marks.ends(tokens.back())) {
      tokens.pop_back();
      draft.user_speaks = !draft.user_speaks;
      const auto& mark = draft.user_speaks ? input_.marks.to_user : input_.marks.to_assistant;
      tokens.insert(tokens.end(), mark.begin(), mark.end());
    }
    const std::size_t repeated = repeated_tail(tokens);
    tokens.resize(std::min(tokens.size() - repeated, longest_));
    return repeated == 0 && tokens.size() < longest_;
  }

  B& model_;
  WritingInput input_;
  WritingSettings settings_;
  Workers& workers_;
  typename B::Batch batch_;
  std::size_t longest_ = 0;
  std::vector<Draft> drafts_;
  std::vector<float> logits_;              ///< [drafts, vocabulary]
  std::vector<std::vector<Token>> texts_;  ///< those that were begun
};

}  // namespace detail

/// Texts that a model writes itself, several at a time: from each opening it goes on turn by turn, the user's as well,
/// until a text is as long as it may be or repeats itself. Openings are taken in order, again and again.
/// @return texts with their openings, in that order; the last ones end where all together are long enough
/// @post   the same input and settings give the same tokens, as long as the model's logits have the same bits
/// @throws PreconditionError if there are no openings, one has no tokens, texts have fewer than two, or none are
///         written at once
template <ModelBackend B>
[[nodiscard]] std::vector<std::vector<Token>> write_texts(
    B& model, const WritingInput& input, Workers& workers, const WritingSettings& settings = {},
    const WritingProgress& progress = [](auto...) {}) {
  return detail::Writing<B>(model, input, settings, workers).run(progress);
}

}  // namespace krul
