#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/eval/machine_costs.hpp"
#include "krul/eval/restore_bench.hpp"
#include "krul/eval/returning_text.hpp"
#include "krul/store/file_store.hpp"
#include "krul/store/page_cache.hpp"

namespace krul::eval {

/// How a conversation came back under one strategy.
struct ReturnedRow {
  Returning saved;
  RestoreRow restore;
  TextDivergence divergence;  ///< of how it goes on, from the run without any saving
};

/// How a conversation came back over one link.
struct ReturnedRows {
  LinkName link;                  ///< as it was resolved for the history
  std::vector<ReturnedRow> rows;  ///< [strategies]
  std::size_t rounds = 0;
  bool noisy = false, cut_short = false;  ///< as in RoundsReport
};

/// Conversations that are saved under several strategies, for several links, and come back: often in another process
/// than the one that saved them, which has a scene of its own over the same files; write_returning hands over
/// the text.
template <ModelBackend B>
class ReturnScene {
 public:
  struct Parts {
    std::vector<AnyStrategy> strategies;  ///< at least one
    std::vector<LinkName> links;          ///< at least one
    MachineCosts costs;
  };

  /// @param model  kept by reference
  ReturnScene(B& model, FileStore store, Parts parts)
      : model_(&model), files_(std::move(store)), store_(files_), parts_(std::move(parts)) {
    expects(!parts_.strategies.empty() && !parts_.links.empty(), "ReturnScene: at least one strategy and one link");
  }

  [[nodiscard]] const Parts& parts() const noexcept { return parts_; }
  /// Where a link stands for a rate that depends on the conversation, that rate.
  [[nodiscard]] LinkName resolved(const LinkName& link, std::size_t history) const {
    return parts_.costs.resolved(link, model_->geometry(), history, usual_prompt);
  }

  /// Computes a conversation and saves its history under every strategy, for every link where that matters.
  /// @param text          its id, its tokens and how many of them are the history: at least one, and fewer than all
  /// @param continuation  greedy tokens of the reference, at least 1
  /// @return the text with its reference; as save_returning
  /// @throws PreconditionError if there is no history or nothing behind it; NotFiniteError as prefill_exact
  [[nodiscard]] Result<ReturningText> save(ReturningText text, std::size_t continuation) {
    expects(text.history > 0 && text.history < text.tokens.size(), "ReturnScene: a history, and tokens behind it");
    const auto history = std::span(text.tokens).first(text.history),
               prompt = std::span(text.tokens).subspan(text.history);
    auto exact = prefill_exact(*model_, history, prompt.size() + continuation, parts_.strategies);
    std::set<std::string> saved;
    for (const AnyStrategy& strategy : parts_.strategies) {
      std::optional<StepScale> step;  // measuring it takes longer than the save
      for (const LinkName& link : parts_.links) {
        const std::string id = saved_id(text, strategy, link);
        if (!saved.insert(id).second) continue;
        auto returning = save_returning(*model_, store_, exact, history,
                                        {strategy, id, costs_over(resolved(link, text.history), strategy), step});
        if (!returning) return propagate(returning);
        step = returning->step;
      }
    }
    text.reference = greedy_text(*model_, exact.cache, prompt, continuation);
    return text;
  }

  /// Restores what save has saved under every strategy over one link, in the same rounds; from the disk, each read
  /// comes from there. What is saved goes on alike each time, so only its first restore is compared with the reference.
  /// @param link          one of the scene's
  /// @param before_read   called before each restore; may be empty
  /// @return              not_found if it was not saved for this link; the first error of a restore, and of the store
  /// @throws              PreconditionError if the text has no reference
  template <Clock C, LoadProbe P>
  [[nodiscard]] Result<ReturnedRows> restore(const ReturningText& text, const LinkName& link,
                                             PairedRounds<C, P>& rounds,
                                             std::function<void(const Returning&)> before_read = {}) {
    expects(!text.reference.tokens.empty(), "ReturnScene: a text without its reference; save gives it");
    ReturnedRows found{.link = resolved(link, text.history), .rows = {}};
    std::vector<Returning> saved;
    for (const AnyStrategy& strategy : parts_.strategies) {
      const std::string id = saved_id(text, strategy, link);
      const auto bytes = stored_bytes(files_, folder_of(id));
      if (!bytes) return propagate(bytes);
      if (*bytes == 0) return fail(ErrorCode::not_found, "nothing is saved as " + id + ": save it for this link first");
      saved.push_back({.strategy = strategy,
                       .id = id,
                       .tokens = text.tokens,
                       .costs = costs_over(found.link, strategy),
                       .stored_bytes = *bytes});
    }
    auto over = benched_link(found.link, store_, [this](const Returning& each) {
      drop_from_page_cache(files_.path() / folder_of(each.id));
    });
    over.before_read = [announce = std::move(before_read), cool = std::move(over.before_read)](const Returning& each) {
      if (announce) announce(each);
      if (cool) cool(each);
    };
    const auto report = bench_restores(*model_, over, saved, rounds, [&](std::size_t i, auto& restored) {
      if (!divergences_.contains(saved[i].id))
        divergences_[saved[i].id] =
            divergence_from(text.reference, *model_, restored.conversation.cache(), restored.logits);
    });
    if (!report) return propagate(report);
    found.rounds = report->rounds.size();
    found.noisy = report->noisy;
    found.cut_short = report->cut_short;
    auto rows = restore_rows(*report);
    for (std::size_t i = 0; i < rows.size(); ++i)
      found.rows.push_back({saved[i], std::move(rows[i]), divergences_.at(saved[i].id)});
    return found;
  }

 private:
  /// Tokens of a usual prompt, for links that depend on the conversation.
  static constexpr std::size_t usual_prompt = 32;

  [[nodiscard]] Costs costs_over(const LinkName& link, const AnyStrategy& strategy) const {
    return parts_.costs.of(strategy, model_->geometry().layers, link);
  }
  /// One for each strategy, and for each link that it saves otherwise for.
  [[nodiscard]] static std::string saved_id(const ReturningText& text, const AnyStrategy& strategy,
                                            const LinkName& link) {
    return text.id + "-" + strategy.name() + (strategy.needs().costs ? "-" + link.text : "");
  }
  [[nodiscard]] static std::string folder_of(const std::string& id) { return or_throw(conversation_folder(id)); }

  B* model_;
  FileStore files_;
  AnyStore store_;
  Parts parts_;
  std::map<std::string, TextDivergence> divergences_;  ///< of what is saved, by its id
};

}  // namespace krul::eval
