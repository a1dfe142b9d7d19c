#pragma once

#include <algorithm>
#include <array>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "krul/backend/conformance/pass.hpp"
#include "krul/backend/forward_each.hpp"

namespace krul::conformance {

/// Whole passes: the same call gives the same bits, and however a conversation is cut, the same numbers.
template <ModelBackend B>
void check_passes(const Trial<B>& trial, ConformanceReport& report) {
  const std::size_t count = trial.tokens.size(), layers = trial.geometry.layers;
  const auto compare = [&](const Outcome& outcome, const std::string& what) {
    double largest = trial.require_logits(outcome.logits, trial.positions({0, count}), what);
    for (std::size_t layer = 0; layer < layers; ++layer)
      largest = std::max(largest, trial.require_rows(trial.rows(outcome, layer, {0, count}), layer, {0, count}, what));
    return largest;
  };

  report.add("passes: the same call gives the same bits", [&] {
    require(run(trial.model, trial.tokens, {}) == trial.reference, "a second run gives other bits than the first");
    return std::string();
  });

  report.add("passes: another conversation gives other logits", [&] {
    const double difference =
        relative_difference(trial.other.logits, trial.reference.logits, trial.geometry.vocabulary);
    require(difference > trial.tolerance, "the logits do not depend on the tokens by more than the tolerance");
    return std::string();
  });

  report.add("passes: a conversation in pieces equals one at once", [&] {
    const std::array<std::size_t, 3> pieces{1, count / 2, 2};
    return trial.measured(compare(run(trial.model, trial.tokens, pieces), "in pieces and at once"));
  });

  report.add("passes: a conversation token by token equals one at once", [&] {
    const std::vector<std::size_t> pieces(count, 1);
    return trial.measured(compare(run(trial.model, trial.tokens, pieces), "token by token and at once"));
  });

  report.add("passes: a recomputed prefix, loaded rows and a prompt in one batch equal one run", [&] {
    // Layer l recomputes its first prefix(l) rows, fewer from layer to layer; the rest of the history is loaded.
    const std::size_t history = count - count / 3, prompt = count - history;
    const auto prefix = [&](std::size_t layer) {
      return layer < layers ? history * (layers - layer) / (layers + 1) : 0;
    };
    auto session = start(trial.model, count);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const TokenRange suffix{prefix(layer), history};
      write_rows(session.cache, layer, suffix, trial.rows(trial.reference, layer, suffix));
    }
    auto positions = trial.positions({0, prefix(0)});
    const auto prompt_positions = trial.positions({history, count});
    positions.insert(positions.end(), prompt_positions.begin(), prompt_positions.end());
    LayerWalk<B> walk(trial.model, session, trial.tokens, positions, KvWrite::all);
    walk.step();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      walk.step();
      const std::array<RowRange, 2> carried{RowRange{0, prefix(layer + 1)},
                                            RowRange{prefix(layer), prefix(layer) + prompt}};
      session.batch.keep(carried);
      walk.step();
      walk.step();
    }
    require(session.cache.length() == 0, "a pass committed rows by itself");
    session.cache.commit(count);

    double largest = trial.require_logits(walk.logits(), prompt_positions, "after a gap and without one");
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const auto rows = read_kv_rows(session.cache, trial.geometry, layer, {0, count});
      const TokenRange suffix{prefix(layer), history};
      require(
          same_bits(rows_of(rows, suffix, trial.geometry.kv_row_bytes()), trial.rows(trial.reference, layer, suffix)),
          "loaded rows of layer " + std::to_string(layer) + " changed during the pass");
      const KvRows all = rows_of(rows, {0, count}, trial.geometry.kv_row_bytes());
      largest = std::max(largest, trial.require_rows(all, layer, {0, count}, "after a gap and without one"));
    }
    return trial.measured(largest);
  });
}

/// Two passes at once, in one thread and in two, or as one if the backend can: none may see the other.
template <ModelBackend B>
void check_independence(const Trial<B>& trial, ConformanceReport& report) {
  const std::size_t count = trial.tokens.size();

  report.add("independence: two passes taken step by step in turn do not disturb each other", [&] {
    const auto long_positions = trial.positions({0, count}), short_positions = trial.positions({0, count / 2});
    std::vector<std::vector<float>> alone, in_turn;
    for (const bool together : {false, true}) {
      auto first = start(trial.model, count), second = start(trial.model, count);
      LayerWalk<B> one(trial.model, first, trial.tokens, long_positions, KvWrite::all);
      LayerWalk<B> two(trial.model, second, trial.others, short_positions, KvWrite::all);
      if (!together) one.step_to_end();
      while (two.step()) one.step();
      auto& results = together ? in_turn : alone;
      results.push_back(one.logits());
      results.push_back(two.logits());
    }
    require(alone == in_turn, "logits have other bits when another pass runs in between");
    return std::string();
  });

  report.add("independence: two passes in two threads do not disturb each other", [&] {
    std::array<Outcome, 2> outcomes;
    std::array<std::exception_ptr, 2> failures;
    {
      std::vector<std::jthread> threads;
      for (const std::size_t i : {0, 1})
        threads.emplace_back([&, i] {
          try {
            outcomes[i] = run(trial.model, i == 0 ? trial.tokens : trial.others, {});
          } catch (...) {
            failures[i] = std::current_exception();
          }
        });
    }
    for (const auto& failure : failures)
      if (failure) std::rethrow_exception(failure);
    require(outcomes[0] == trial.reference && outcomes[1] == trial.other,
            "a pass gives other bits when another one runs in another thread");
    return std::string();
  });

  if (batches_caches(trial.model))
    report.add("independence: several caches in one pass equal passes over each", [&] {
      const auto session = [&] { return start(trial.model, count); };
      std::array<Session<B>, 2> sessions{session(), session()};
      std::vector<float> logits(2 * trial.geometry.vocabulary);
      double largest = 0;
      for (std::size_t at = 0, end; at < count; at = end) {  // one token each, then what is left
        end = at == 0 ? 1 : count;
        const std::array<Continuation<typename B::Cache>, 2> parts{
            Continuation<typename B::Cache>{&sessions[0].cache, std::span(trial.tokens).subspan(at, end - at)},
            {&sessions[1].cache, std::span(trial.others).subspan(at, end - at)}};
        forward_each<B>(trial.model, sessions[0].batch, parts, logits);
        for (const std::size_t i : {0, 1}) {
          const auto& expected = i == 0 ? trial.reference : trial.other;
          const auto row = [&](const std::vector<float>& all, std::size_t index) {
            return std::span(all).subspan(index * trial.geometry.vocabulary, trial.geometry.vocabulary);
          };
          largest =
              std::max(largest, trial.require_close(relative_difference(row(logits, i), row(expected.logits, end - 1),
                                                                        trial.geometry.vocabulary),
                                                    "logits in one pass and in two"));
        }
      }
      return trial.measured(largest);
    });
}

}  // namespace krul::conformance
