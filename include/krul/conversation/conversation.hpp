#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/grown_cache.hpp"
#include "krul/backend/guarded.hpp"
#include "krul/backend/lends_workers.hpp"
#include "krul/conversation/background_save.hpp"
#include "krul/conversation/conversation_options.hpp"
#include "krul/conversation/detail/attention_watch.hpp"
#include "krul/conversation/detail/lock_refused.hpp"
#include "krul/conversation/detail/observed_turn.hpp"
#include "krul/conversation/detail/restore_notes.hpp"
#include "krul/conversation/detail/restore_planner.hpp"
#include "krul/conversation/manifest_check.hpp"
#include "krul/conversation/open_conversation.hpp"
#include "krul/conversation/save.hpp"
#include "krul/conversation/take_over.hpp"
#include "krul/restore/predict.hpp"
#include "krul/restore/restore.hpp"
#include "krul/restore/restore_by_tokens.hpp"
#include "krul/restore/stored_state.hpp"
#include "krul/store/conversation_key.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/strategy/gather.hpp"
#include "krul/strategy/strategy_codings.hpp"

namespace krul {

/// One conversation: its live cache while it is active, its saved state while it is not.
///
///   open     finds the saved state, if any, and checks that it belongs to this model
///   advance  brings the cache to the end of the given tokens, by whatever is cheapest: the live cache, the saved state
///            (longest common prefix on exact token ids), the forward pass
///   append   one more token: decode
///   save     appends what is new to the saved state; afterwards drop() may free the cache
///   save_in_background, finish_save   the same beside the next turn
template <ModelBackend B, ConversationStore S, Clock C>
class Conversation {
 public:
  /// Holds the only right to write this conversation until it is destroyed, unless it is read only. It then also
  /// finishes what a save or an erase left undone that was cut off.
  /// @return unsupported if it would be written under a strategy for one return; busy if it has another writer;
  ///         identity_mismatch, listing the fields, if another model saved it (and options.recompute is not set, or its
  ///         tokens may mean another text here), or the profile is another model's; corrupt if nothing of it can be
  ///         read
  [[nodiscard]] static Result<Conversation> open(B& model, S& store, std::string id, ConversationOptions options = {},
                                                 C clock = {});

  /// All tokens of the saved state, empty for a new conversation. The last ones may have no saved rows yet.
  /// A save that still goes on does not count.
  [[nodiscard]] const std::vector<Token>& saved_tokens() const noexcept { return manifest_.tokens; }
  /// All tokens of the live cache and those waiting to be run.
  [[nodiscard]] const std::vector<Token>& tokens() const noexcept { return tokens_; }
  [[nodiscard]] const Manifest& manifest() const noexcept { return manifest_; }
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }
  /// What was read to know what is saved.
  [[nodiscard]] std::uint64_t manifest_bytes() const noexcept { return manifest_bytes_; }
  /// The live cache. Its rows may move whenever tokens are run: it grows.
  /// @throws PreconditionError if there is none
  [[nodiscard]] typename B::Cache& cache() {
    expects(cache_.has_value(), "Conversation: no live cache; call advance first");
    return *cache_;
  }

  /// Of the attention in the whole conversation, as it is saved with it; null if the strategy looks at none.
  [[nodiscard]] const AttentionStatistics* statistics() { return watch_ ? watch_->statistics() : nullptr; }

  /// Plans restores for these costs from now on.
  void plan_for(const Costs& costs) { options_.costs = costs; }

  /// Brings the cache to the end of `tokens`, the whole conversation with its new prompt.
  /// @param logits  [rows, vocabulary] next-token logits of the last rows; one row is the usual case
  /// @return        what was reused and what it took; too_large if the tokens exceed the capacity; backend, naming the
  ///                layer, if the model's numbers are not finite
  /// @post          on failure the live cache is as it was, or shorter
  /// @throws        PreconditionError if tokens is empty, or logits hold no whole rows or more rows than there
  ///                are tokens
  [[nodiscard]] Result<RestoreReport> advance(std::span<const Token> tokens, std::span<float> logits);

  /// The same under the eyes of an observer of attention of the caller's, in the place of the strategy's: it sees every
  /// new row, and none that it has seen in an earlier turn. Statistics that were saved with the matched history are
  /// loaded into it first, if it can load them. One without begin_again() is void after a report of recomputed_all.
  template <TokenwiseObserver O>
  [[nodiscard]] Result<RestoreReport> advance(std::span<const Token> tokens, std::span<float> logits, O& observer) {
    return advance_with(tokens, logits, observer);
  }

  /// Runs one more token.
  /// @param logits  [vocabulary]
  /// @return        too_large if the cache is full; backend if the model's numbers are not finite. The token was not
  ///                taken then
  [[nodiscard]] Status append(Token token, std::span<float> logits) {
    return watch_ ? append(token, logits, *watch_) : append(token, logits, NullObserver{});
  }
  template <AttentionObserver O>
  [[nodiscard]] Status append(Token token, std::span<float> logits, O&& observer);

  /// A token that ends the reply: kept with the conversation, run with the next prompt.
  /// @throws PreconditionError if it is none of the model's: what was saved with it could not be opened again
  void append_pending(Token token) {
    expects(static_cast<std::size_t>(token) < model_->geometry().vocabulary, "Conversation: no such token");
    tokens_.push_back(token);
  }

  /// What the strategy makes of the conversation as it is now. Gathers what it needs; what is measured of the
  /// conversation is measured once and remembered with what is saved.
  /// @return unsupported if the strategy needs what only a run from the beginning has; backend if a row is not finite;
  ///         what the strategy says
  /// @throws PreconditionError without a live cache
  [[nodiscard]] Result<SavePlan> plan();

  /// Saves what is new, as the strategy plans it. Closed blocks that are already saved are not written again, but those
  /// that were found damaged.
  /// @return why it is not all done; what was saved before is still there then, unless the message says that the new
  ///         state is in force. busy if somebody else has saved it since, whose state stays. Among else as plan
  [[nodiscard]] Result<SaveReport> save() {
    const auto planned = plan();
    return planned ? save(*planned, statistics()) : propagate(planned);
  }

  /// The same, stored as a plan says. Rows saved before keep their coding; fronts that it leaves out are forgotten.
  /// @param statistics  of the whole conversation, kept with it for its next turn; null: none are
  /// @throws PreconditionError if the plan is not valid for this model, or the conversation was opened read only
  [[nodiscard]] Result<SaveReport> save(const SavePlan& plan, const AttentionStatistics* statistics = nullptr);

  /// Saves what is new as it is now, in a thread of its own that yields to all others: returns when the new rows are
  /// copied, and the conversation may go on. Where they are more than options.largest_copy, it saves before it returns.
  /// Whatever needs the saved state waits for the end of a save; so does the destructor.
  /// @return       identity_mismatch if the plan's profile is another model's: nothing has begun; the error of the save
  ///               before, if that was not asked for by finish_save: this one has begun, and saves what that could not
  /// @throws       as save
  /// @complexity   copies the new rows: O(L * rows) memory until the save has ended
  [[nodiscard]] Status save_in_background(const SavePlan& plan, const AttentionStatistics* statistics = nullptr);
  [[nodiscard]] Status save_in_background() {
    const auto planned = plan();
    return planned ? save_in_background(*planned, statistics()) : propagate(planned);
  }

  /// Waits for a save in the background and says how it ended; without one, how the last one did.
  [[nodiscard]] Result<SaveReport> finish_save();

  /// Whether a save in the background has begun and not ended.
  [[nodiscard]] bool saving() const { return background_ && !background_->done(); }

  /// Frees the live cache. What was not saved is lost.
  void drop() {
    cache_.reset();
    tokens_.clear();
  }

 private:
  Conversation(B& model, S& store, ConversationOptions options, C clock)
      : model_(&model),
        store_(&store),
        options_(std::move(options)),
        needs_(options_.strategy.needs()),
        codings_(with_codings_of(needs_, options_.codings)),
        planner_(options_.strategy.restore_policy()),
        clock_(std::move(clock)),
        team_(model, options_.threads) {}

  /// What the tokens mean, if it is known.
  [[nodiscard]] std::string texts() const { return options_.texts_hash ? options_.texts_hash(tokens_) : std::string(); }
  /// The first token of the first block that a save has to code.
  [[nodiscard]] std::size_t first_to_code(const SavePlan& plan) {
    return first_token_to_code(manifest_, plan, cache().length(), unchanged_, damaged_blocks_);
  }

  [[nodiscard]] Result<SaveReport> save_once(const SavePlan& plan, const AttentionStatistics* statistics);
  /// Forgets a pass that did not come to its end, which may have left some of its pieces.
  /// @param rows  leading ones of the cache that are those of tokens()
  void forget_pass(std::size_t rows) {
    if (cache_) cache_->truncate(rows);
    if (watch_) watch_->begin_again();
  }
  void make_room(std::size_t tokens) {
    if (tokens > cache_->capacity())
      cache_.emplace(grown_cache(*model_, *cache_, room_to_grow(tokens, options_.capacity)));
  }

  template <AttentionObserver O>
  [[nodiscard]] Result<RestoreReport> advance_with(std::span<const Token> tokens, std::span<float> logits, O& observer);
  template <AttentionObserver O>
  [[nodiscard]] Result<RestoreReport> continue_live(std::span<const Token> tokens, std::span<float> logits,
                                                    O& observer);
  template <AttentionObserver O>
  [[nodiscard]] Result<RestoreReport> restore_saved(std::span<const Token> tokens, std::span<float> logits,
                                                    O& observer);

  B* model_;
  S* store_;
  ConversationOptions options_;
  Needs needs_;  ///< of the strategy
  CodingSet codings_;
  detail::RestorePlanner planner_;
  C clock_;
  TeamFor<B> team_;
  std::optional<detail::AttentionWatch> watch_;  ///< if the strategy looks at attention
  std::optional<StepScale> step_;                ///< once it was measured: a save may still be under way
  std::optional<typename S::Lock> lock_;
  std::string folder_;
  Manifest manifest_;  ///< as saved; generation 0 if nothing is
  std::uint64_t manifest_bytes_ = 0;
  std::optional<double> opened_s_ = {};      ///< what open took; told with the first restore
  std::string manifest_repair_;              ///< what was wrong with the saved manifest, if anything
  std::size_t unchanged_ = 0;                ///< leading rows of the live cache that are those of the saved state
  std::vector<std::size_t> damaged_blocks_;  ///< of the saved state, ascending: not as they were written
  std::optional<typename B::Cache> cache_;
  std::vector<Token> tokens_;
  Result<SaveReport> background_report_;            ///< of the last save in the background that has ended
  std::size_t background_unchanged_ = 0;            ///< leading rows of the live cache that the running one saves
  std::optional<BackgroundSave<S, C>> background_;  ///< last: it works on what is above
};

template <ModelBackend B, ConversationStore S, Clock C>
Result<Conversation<B, S, C>> Conversation<B, S, C>::open(B& model, S& store, std::string id,
                                                          ConversationOptions options, C clock) {
  expects(options.block > 0 && options.threads > 0, "Conversation: block and threads of at least one");
  const TimePoint start = clock.now();
  Conversation opened(model, store, std::move(options), std::move(clock));
  const auto folder = conversation_folder(id);
  if (!folder) return propagate(folder);
  opened.folder_ = *folder;
  if (!opened.options_.read_only) {
    if (auto status = for_any_turn(opened.needs_, opened.options_.strategy.name()); !status) return propagate(status);
    auto lock = store.lock(opened.folder_);
    if (!lock) return tl::unexpected(detail::lock_refused(lock.error(), id));
    opened.lock_.emplace(std::move(*lock));
  }
  if (opened.codings_.profile())
    if (auto status = belongs_to(*opened.codings_.profile(), model.identity()); !status) return propagate(status);
  if (opened.options_.capacity == 0) opened.options_.capacity = model.geometry().context;
  auto loaded = load_manifest(store, opened.folder_,
                              opened.options_.read_only ? ManifestCopies::first_valid : ManifestCopies::both,
                              ManifestOf{id, model.identity(), model.geometry()});
  opened.manifest_ = new_manifest(model, std::move(id), opened.options_.block);
  if (loaded) {
    if (!opened.options_.read_only && differences(loaded->manifest.identity, model.identity()).empty())
      finish_interrupted(store, opened.folder_, *loaded);
    auto taken = take_over(std::move(*loaded), std::move(opened.manifest_), opened.options_);
    if (!taken) return propagate(taken);
    opened.manifest_ = std::move(taken->manifest);
    opened.manifest_repair_ = std::move(taken->repaired);
    opened.manifest_bytes_ = taken->bytes;
    opened.opened_s_ = seconds(opened.clock_.now() - start);
  } else if (loaded.error().code == ErrorCode::not_found) {
    // What an erase or a first save left behind that was cut off is no part of the new conversation.
    if (!opened.options_.read_only) static_cast<void>(collect_garbage(store, opened.folder_, opened.manifest_));
  } else {
    return propagate(loaded);
  }
  opened.step_ = remembered_step(opened.manifest_.plans, nominal_step(opened.needs_));
  return opened;
}

template <ModelBackend B, ConversationStore S, Clock C>
Result<RestoreReport> Conversation<B, S, C>::advance(std::span<const Token> tokens, std::span<float> logits) {
  NullObserver nobody;
  if (!detail::AttentionWatch::is_needed(needs_)) return advance_with(tokens, logits, nobody);
  if (!watch_ || !cache_) watch_.emplace(model_->geometry(), needs_);
  return advance_with(tokens, logits, *watch_);
}

template <ModelBackend B, ConversationStore S, Clock C>
template <AttentionObserver O>
Result<RestoreReport> Conversation<B, S, C>::advance_with(std::span<const Token> tokens, std::span<float> logits,
                                                          O& observer) {
  expects(!tokens.empty(), "Conversation: advance needs tokens");
  expects(!logits.empty() && logits.size() % model_->geometry().vocabulary == 0,
          "Conversation: logits hold no whole rows");
  expects(logits.size() / model_->geometry().vocabulary <= tokens.size(),
          "Conversation: more rows of logits than tokens");
  if (tokens.size() > options_.capacity)
    return fail(ErrorCode::too_large, "the conversation has " + std::to_string(tokens.size()) + " tokens, but only " +
                                          std::to_string(options_.capacity) +
                                          " fit the context; start a new one or shorten it");
  std::string lost;
  if (!cache_ && background_)
    if (const auto saved = finish_save(); !saved)
      lost = "the save of the last turn did not come to its end: " + saved.error().message;
  const auto forget = [&] { forget_pass(common_prefix(tokens, tokens_)); };
  auto report = guarded(forget, [&] {
    return cache_ ? continue_live(tokens, logits, observer) : restore_saved(tokens, logits, observer);
  });
  if (!report) return report;
  if (!lost.empty()) report->reasons.push_back(lost);
  report->notes = detail::restore_notes(needs_, planner_, options_.costs, manifest_, report->bytes > 0);
  tokens_.assign(tokens.begin(), tokens.end());
  report->asked = tokens.size();
  return report;
}

template <ModelBackend B, ConversationStore S, Clock C>
template <AttentionObserver O>
Result<RestoreReport> Conversation<B, S, C>::continue_live(std::span<const Token> tokens, std::span<float> logits,
                                                           O& observer) {
  const TimePoint start = clock_.now();
  const std::size_t rows = logits.size() / model_->geometry().vocabulary;
  RestoreReport report;
  report.matched = std::min({common_prefix(tokens, tokens_), cache_->length(), tokens.size() - rows});
  if (watch_ && report.matched < cache_->length() / 2) watch_->begin_again();  // most of what it saw is gone
  cache_->truncate(report.matched);
  unchanged_ = std::min(unchanged_, report.matched);
  background_unchanged_ = std::min(background_unchanged_, report.matched);
  detail::begin_observing(observer, {report.matched, tokens.size()}, model_->geometry(), {});
  make_room(tokens.size());
  detail::run_observed(*model_, *cache_, tokens.subspan(report.matched), logits, observer);
  report.first_token_s = report.busy[computes_on(*model_)] = seconds(clock_.now() - start);
  return report;
}

template <ModelBackend B, ConversationStore S, Clock C>
template <AttentionObserver O>
Result<RestoreReport> Conversation<B, S, C>::restore_saved(std::span<const Token> tokens, std::span<float> logits,
                                                           O& observer) {
  const TimePoint start = clock_.now();
  const std::size_t rows = logits.size() / model_->geometry().vocabulary;
  const std::size_t common = common_prefix(tokens, manifest_.tokens);
  const std::size_t matched = std::min({common, manifest_.rows, tokens.size() - rows});
  typename B::Cache fresh = model_->make_cache(room_to_grow(tokens.size(), options_.capacity));
  RestoreReport report;
  TimePoint prepared = start;
  detail::begin_observing(observer, {matched, tokens.size()}, model_->geometry(),
                          detail::saved_attention(manifest_, matched));
  if (matched == 0) {
    detail::run_observed(*model_, fresh, tokens, logits, observer);
    report.busy[computes_on(*model_)] = seconds(clock_.now() - start);
  } else {
    // An observer may want fewer rows at once than the prompt has; the rest follows behind the restore.
    const std::size_t prompt = detail::tokens_at_once(observer, tokens.size() - matched, rows), end = matched + prompt;
    const std::span<float> unwanted = end == tokens.size() ? logits : logits.first(model_->geometry().vocabulary);
    const RestoreSizes sizes = restore_sizes(manifest_, matched, prompt);
    const RestoreJob<B, S, C, detail::ObserverOf<O>> job{.model = *model_,
                                                         .store = *store_,
                                                         .cache = fresh,
                                                         .workers = team_.workers(),
                                                         .manifest = manifest_,
                                                         .folder = folder_,
                                                         .plan = planner_.plan(sizes, options_.costs),
                                                         .tokens = tokens.first(end),
                                                         .logits = unwanted,
                                                         .control = options_.restoring.from(start),
                                                         .codings = codings_,
                                                         .decode = detail::RestorePlanner::decode(options_.costs),
                                                         .clock = clock_,
                                                         .observer = detail::observer_of(observer)};
    const auto split = planner_.split(sizes, options_.costs);
    prepared = clock_.now();
    auto restored = split ? restore_by_tokens(job, *split) : restore(job);
    if (!restored) return restored;
    report = std::move(*restored);
    if (options_.costs && !split) {
      report.predicted = predict(job.plan, sizes, *options_.costs);
      if (opened_s_) report.predicted.opening_s = predict_opening_s(*options_.costs, manifest_bytes_);
    }
    if (report.recomputed_all && detail::observes_again(observer, {matched, tokens.size()}, model_->geometry(),
                                                        detail::saved_attention(manifest_, matched)))
      fresh.truncate(matched);
    if (const std::size_t ran = fresh.length(); ran < tokens.size())
      detail::run_observed(*model_, fresh, tokens.subspan(ran), logits, observer);
  }
  std::ranges::move(describe_missing(manifest_, matched, codings_), std::back_inserter(report.reasons));
  if (!manifest_repair_.empty()) report.reasons.push_back(std::exchange(manifest_repair_, {}));
  if (auto unused = describe_unused(manifest_.rows, common, tokens.size())) report.reasons.push_back(*unused);
  damaged_blocks_ = report.damaged_blocks;
  report.matched = matched;
  report.opening_s = std::exchange(opened_s_, {}).value_or(0) + seconds(prepared - start);
  report.first_token_s = seconds(clock_.now() - prepared);
  cache_.emplace(std::move(fresh));
  unchanged_ = matched;
  return report;
}

template <ModelBackend B, ConversationStore S, Clock C>
template <AttentionObserver O>
Status Conversation<B, S, C>::append(Token token, std::span<float> logits, O&& observer) {
  expects(cache().length() == tokens_.size(), "Conversation: run the pending tokens with advance first");
  if (cache_->length() == options_.capacity)
    return fail(ErrorCode::too_large, "the context of " + std::to_string(options_.capacity) + " tokens is full");
  const auto forget = [&] { forget_pass(tokens_.size()); };
  const Status run = guarded(forget, [&]() -> Status {
    make_room(cache_->length() + 1);
    auto batch = model_->make_batch();
    forward(*model_, *cache_, batch, std::span(&token, 1), logits, observer);
    return {};
  });
  if (run) tokens_.push_back(token);
  return run;
}

template <ModelBackend B, ConversationStore S, Clock C>
Result<SaveReport> Conversation<B, S, C>::save(const SavePlan& plan, const AttentionStatistics* statistics) {
  expects(!options_.read_only, "Conversation: opened read only");
  static_cast<void>(finish_save());  // what it could not save is saved now
  auto saved = save_once(plan, statistics);
  if (!saved || saved->damaged_blocks.empty()) return saved;
  // The rows of what the save found damaged are at hand. Should they not be written, a next save will try again.
  if (const auto mended = save_once(plan, statistics)) saved->add_mended(*mended);
  return saved;
}

template <ModelBackend B, ConversationStore S, Clock C>
Result<SaveReport> Conversation<B, S, C>::save_once(const SavePlan& plan, const AttentionStatistics* statistics) {
  auto saved = guarded([&]() -> Result<SaveReport> {
    const TokenFeatures features =
        features_for(*model_, plan, std::span(tokens_).first(cache().length()), first_to_code(plan));
    const SaveJob<typename B::Cache, S, C> job{.store = *store_,
                                               .folder = folder_,
                                               .cache = cache(),
                                               .geometry = model_->geometry(),
                                               .workers = team_.workers(),
                                               .plan = plan,
                                               .statistics = statistics,
                                               .features = &features,
                                               .texts = texts(),
                                               .damaged_blocks = damaged_blocks_,
                                               .clock = clock_};
    return save_conversation(job, manifest_, tokens_, unchanged_);
  });
  if (!saved) return saved;
  unchanged_ = manifest_.rows;
  damaged_blocks_ = saved->damaged_blocks;
  return saved;
}

template <ModelBackend B, ConversationStore S, Clock C>
Status Conversation<B, S, C>::save_in_background(const SavePlan& plan, const AttentionStatistics* statistics) {
  expects(!options_.read_only, "Conversation: opened read only");
  expects_valid(plan, model_->geometry().layers);
  expects(plan.from_source.empty(), "Conversation: chunks are made of the cache alone");
  if (plan.profile)
    if (auto status = belongs_to(*plan.profile, model_->identity()); !status) return status;
  const bool unasked = background_.has_value();
  const auto before = finish_save();
  const std::size_t first = first_to_code(plan);
  if (KvSnapshot::bytes(model_->geometry(), cache().length() - first) > options_.largest_copy) {
    background_report_ = save(plan, statistics);
  } else {
    const Status begun = guarded([&]() -> Status {
      background_.emplace(BackgroundSaveJob<S, C>{
          .store = *store_,
          .folder = folder_,
          .rows = KvSnapshot(model_->geometry(), cache(), first),
          .geometry = model_->geometry(),
          .plan = plan,
          .statistics = statistics ? std::optional(*statistics) : std::nullopt,
          .features = features_for(*model_, plan, std::span(tokens_).first(cache().length()), first),
          .manifest = manifest_,
          .tokens = tokens_,
          .texts = texts(),
          .unchanged = unchanged_,
          .damaged_blocks = damaged_blocks_,
          .clock = clock_});
      return {};
    });
    if (!begun) return begun;
    background_unchanged_ = cache().length();
  }
  return unasked && !before ? Status(propagate(before)) : Status();
}

template <ModelBackend B, ConversationStore S, Clock C>
Result<SaveReport> Conversation<B, S, C>::finish_save() {
  if (background_) {
    background_report_ = std::exchange(background_, {})->finish(manifest_);
    if (background_report_ && cache_) unchanged_ = background_unchanged_;
    if (background_report_) damaged_blocks_ = background_report_->damaged_blocks;
  }
  return background_report_;
}

template <ModelBackend B, ConversationStore S, Clock C>
Result<SavePlan> Conversation<B, S, C>::plan() {
  if (auto status = for_any_turn(needs_, options_.strategy.name()); !status) return propagate(status);
  return guarded([&]() -> Result<SavePlan> {
    const LiveConversation<typename B::Cache> live{.cache = cache(),
                                                   .tokens = std::span<const Token>(tokens_).first(cache().length()),
                                                   .workers = team_.workers(),
                                                   .statistics = statistics(),
                                                   .row_attention = watch_ ? watch_->row_attention() : nullptr,
                                                   .step = step_,
                                                   .costs = options_.costs,
                                                   .block = manifest_.block};
    auto planned = options_.strategy.plan(gather_evidence(*model_, needs_, live));
    if (!planned) return planned;
    if (auto status = can_be_decoded(*planned, codings_); !status) return propagate(status);
    if (planned->measured_step) step_ = planned->measured_step;
    return planned;
  });
}

}  // namespace krul
