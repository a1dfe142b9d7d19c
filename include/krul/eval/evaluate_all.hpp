#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/eval/by_source.hpp"
#include "krul/eval/return_figures.hpp"
#include "krul/eval/token_text.hpp"
#include "krul/eval/turns.hpp"

namespace krul::eval {

/// What an evaluation found of one contender.
struct EvaluatedContender {
  struct OfCase {
    std::string id, source;
    Figures figures;
  };
  std::string name;
  Figures all;                                             ///< over all cases
  std::vector<std::pair<std::string, Figures>> by_source;  ///< in the order in which the sources first came
  std::vector<OfCase> cases;                               ///< none where the protocol says nothing of single ones
};

/// What a kind of evaluation does with each of its cases.
/// @tparam Totals  has add(Found)
/// @tparam Case    has an id and a source
template <class Totals, class Case, class Found>
struct Protocol {
  std::function<Result<std::vector<Found>>(const Case&)> evaluate;  ///< [contenders]
  std::function<Figures(const Totals&)> figures;
  std::function<Figures(const Case&, const Found&)> of_case = {};
};

/// How well histories are restored: see evaluate_quality.
/// @param contenders  outlive what is returned
template <ModelBackend B>
[[nodiscard]] Protocol<QualityOfReturns, CutText, ReturnQuality> quality_protocol(const Contenders<B>& contenders) {
  return {[&](const CutText& text) { return evaluate_quality(contenders, text); },
          [f16 = static_cast<double>(contenders.model().geometry().f16_token_bytes())](const QualityOfReturns& totals) {
            return figures_of(totals, f16);
          },
          [](const CutText& text, const ReturnQuality& found) { return figures_of(text, found); }};
}

/// How long greedy texts stay the same: see evaluate_greedy.
/// @param contenders  outlive what is returned
template <ModelBackend B>
[[nodiscard]] Protocol<GreedyReturns, CutText, GreedyReturn> greedy_protocol(const Contenders<B>& contenders,
                                                                             GreedySettings settings) {
  return {
      [&, settings = std::move(settings)](const CutText& text) { return evaluate_greedy(contenders, text, settings); },
      [f16 = static_cast<double>(contenders.model().geometry().f16_token_bytes())](const GreedyReturns& totals) {
        return figures_of(totals, f16);
      },
      [](const CutText& text, const GreedyReturn& found) { return figures_of(text, found); }};
}

/// How likely gold answers are: see evaluate_task.
/// @param contenders  outlive what is returned
template <ModelBackend B>
[[nodiscard]] Protocol<TaskReturns, TaskCase, TaskReturn> task_protocol(const Contenders<B>& contenders) {
  return {[&](const TaskCase& task) { return evaluate_task(contenders, task); },
          [f16 = static_cast<double>(contenders.model().geometry().f16_token_bytes())](const TaskReturns& totals) {
            return figures_of(totals, f16);
          },
          [](const TaskCase& task, const TaskReturn& found) { return figures_of(task, found); }};
}

/// How far models' predictions of the new tokens are from those of an exact one, with nothing saved in between: what
/// another precision changes.
/// @param exact, models  outlive what is returned
template <ModelBackend B>
[[nodiscard]] Protocol<QualityTotals, CutText, std::vector<TokenQuality>> models_protocol(B& exact,
                                                                                          std::vector<B*> models) {
  return {[&exact, models = std::move(models)](const CutText& text) -> Result<std::vector<std::vector<TokenQuality>>> {
            const std::span<const Token> tokens = text.all;
            const auto fresh = text.fresh();
            const auto reference = logits_of(exact, tokens, fresh.size());
            std::vector<std::vector<TokenQuality>> found;
            for (B* model : models)
              found.push_back(compare_rows(reference, logits_of(*model, tokens, fresh.size()), fresh));
            return found;
          },
          [](const QualityTotals& totals) { return short_figures_of(totals.summary()); }};
}

/// Evaluates all cases, one after the other.
/// @param names     [contenders]
/// @param progress  (index, case): called before each case
/// @return [contenders]; the first error of a case
/// @throws PreconditionError if there is no case, or a case has not one finding for each name
template <class Totals, class Case, class Found, class Progress>
[[nodiscard]] Result<std::vector<EvaluatedContender>> evaluate_all(const std::vector<std::string>& names,
                                                                   const std::vector<Case>& cases,
                                                                   const Protocol<Totals, Case, Found>& protocol,
                                                                   Progress&& progress) {
  expects(!cases.empty(), "evaluate_all: no cases");
  std::vector<BySource<Totals>> totals(names.size());
  std::vector<EvaluatedContender> rows;
  for (const std::string& name : names) rows.push_back({name, {}, {}, {}});
  for (std::size_t i = 0; i < cases.size(); ++i) {
    progress(i, cases[i]);
    const auto found = protocol.evaluate(cases[i]);
    if (!found) return propagate(found);
    expects(found->size() == names.size(), "evaluate_all: one finding for each name");
    for (std::size_t which = 0; which < names.size(); ++which) {
      totals[which].add(cases[i].source, (*found)[which]);
      if (protocol.of_case)
        rows[which].cases.push_back({cases[i].id, cases[i].source, protocol.of_case(cases[i], (*found)[which])});
    }
  }
  for (std::size_t which = 0; which < names.size(); ++which) {
    rows[which].all = protocol.figures(totals[which].all());
    for (const auto& [source, of_source] : totals[which].sources())
      rows[which].by_source.emplace_back(source, protocol.figures(of_source));
  }
  return rows;
}

/// What an evaluation found of one contender turn by turn.
struct EvaluatedTurns {
  std::string name;
  std::vector<Figures> turns;  ///< [turns - 1]: the first one has no history, so nothing is said of it
};

/// Evaluates all texts turn by turn: see evaluate_turns.
/// @param progress  (index, text): called before each text
/// @return and throws as evaluate_turns; [contenders]
/// @throws PreconditionError if there is no text, or one has fewer tokens than the cut needs
template <ModelBackend B, class Progress>
[[nodiscard]] Result<std::vector<EvaluatedTurns>> evaluate_all_turns(const Contenders<B>& contenders,
                                                                     std::span<const TokenText> texts,
                                                                     const TurnCut& cut,
                                                                     typename StrategyRun<B>::Rows how,
                                                                     Progress&& progress) {
  expects(!texts.empty(), "evaluate_all_turns: no texts");
  const auto names = contenders.names();
  std::vector<std::vector<QualityOfReturns>> totals(names.size(), std::vector<QualityOfReturns>(cut.turns));
  for (std::size_t i = 0; i < texts.size(); ++i) {
    progress(i, texts[i]);
    expects(texts[i].tokens.size() >= cut.least_tokens(), "evaluate_all_turns: a text is too short for its turns");
    const auto found = evaluate_turns(contenders, texts[i].tokens, cut.of(texts[i].tokens.size()), how);
    if (!found) return propagate(found);
    for (std::size_t turn = 0; turn < cut.turns; ++turn)
      for (std::size_t which = 0; which < names.size(); ++which) totals[which][turn].add((*found)[turn][which]);
  }
  const auto f16 = static_cast<double>(contenders.model().geometry().f16_token_bytes());
  std::vector<EvaluatedTurns> rows;
  for (std::size_t which = 0; which < names.size(); ++which) {
    rows.push_back({names[which], {}});
    for (std::size_t turn = 1; turn < cut.turns; ++turn) {
      const QualityOfReturns& of_turn = totals[which][turn];
      rows.back().turns.push_back(joined(figures_of(of_turn.stored, f16), short_figures_of(of_turn.quality.summary())));
    }
  }
  return rows;
}

}  // namespace krul::eval
