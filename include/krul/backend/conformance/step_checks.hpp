#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "krul/backend/conformance/pass.hpp"
#include "krul/backend/lends_hidden_states.hpp"

namespace krul::conformance {

/// What embed makes of a token at a position, which profiles are built on: the same bits in whatever batch.
template <ModelBackend B>
requires LendsHiddenStates<typename B::Batch>
void check_embedding(const Trial<B>& trial, ConformanceReport& report) {
  const std::size_t count = trial.tokens.size(), width = trial.geometry.hidden;
  report.add("embed: a row depends on its token and its position alone, bit for bit", [&] {
    const auto embedded = [&](std::span<const Token> tokens, std::span<const Position> positions) {
      std::vector<Token> own;
      for (const Position position : positions) own.push_back(tokens[position]);
      auto batch = trial.model.make_batch();
      batch.assign(positions);
      trial.model.embed(own, batch);
      const std::span<float> hidden = batch.hidden();
      return std::vector<float>(hidden.begin(), hidden.end());
    };
    const auto all = trial.positions({0, count});
    const auto whole = embedded(trial.tokens, all);
    require(are_finite(whole), "hidden states are not finite");
    // The other conversation's tokens around one of this one's.
    auto mixed = trial.others;
    mixed[count / 2] = trial.tokens[count / 2];
    const auto among_others = embedded(mixed, all);
    const auto row_of = [&](const std::vector<float>& rows, std::size_t row) {
      return std::vector<float>(&rows[row * width], &rows[row * width] + width);
    };
    require(row_of(among_others, count / 2) == row_of(whole, count / 2), "a row depends on the tokens of other rows");
    std::vector<Position> gaps;
    for (Position position = 1; position < count; position += 3) gaps.push_back(position);
    for (const auto& some : {trial.positions({count - count / 3, count}), trial.positions({count - 1, count}), gaps}) {
      const auto rows = embedded(trial.tokens, some);
      for (std::size_t i = 0; i < some.size(); ++i)
        require(row_of(rows, i) == row_of(whole, some[i]),
                "the row at position " + std::to_string(some[i]) + " has other bits in a batch of other rows");
    }
    require(embedded(trial.tokens, all) == whole, "a second call gives other bits than the first");
    return std::string();
  });
}

/// What project writes, and what it must leave alone.
template <ModelBackend B>
void check_writes(const Trial<B>& trial, ConformanceReport& report) {
  const std::size_t count = trial.tokens.size(), layers = trial.geometry.layers;
  const auto all = trial.positions({0, count});

  report.add("project: KvWrite::missing leaves present rows bit for bit and writes the others", [&] {
    // The present rows come from another conversation, so that to write them again would be seen.
    const std::array<TokenRange, 3> present{TokenRange{0, 2}, TokenRange{4, 5}, TokenRange{count / 2, count - 2}};
    auto session = start(trial.model, count);
    for (std::size_t layer = 0; layer < layers; ++layer)
      for (const auto& range : present) write_rows(session.cache, layer, range, trial.rows(trial.other, layer, range));
    LayerWalk<B>(trial.model, session, trial.tokens, all, KvWrite::missing).step_to_end();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      require(session.cache.present(layer).contains({0, count}), "rows are still missing afterwards");
      const auto rows = read_kv_rows(session.cache, trial.geometry, layer, {0, count});
      for (const auto& range : present)
        require(same_bits(rows_of(rows, range, trial.geometry.kv_row_bytes()), trial.rows(trial.other, layer, range)),
                "present rows of layer " + std::to_string(layer) + " changed");
      if (layer == 0)  // further up the rows follow from attention over the other conversation's
        trial.require_rows(rows_of(rows, {5, count / 2}, trial.geometry.kv_row_bytes()), 0, {5, count / 2},
                           "written as missing and as all");
    }
    return std::string();
  });

  report.add("project: KvWrite::none writes nothing and still gives the queries", [&] {
    auto empty = start(trial.model, count);
    LayerWalk<B> first_steps(trial.model, empty, trial.tokens, all, KvWrite::none);
    first_steps.step();
    first_steps.step();
    require(empty.cache.present(0).ranges().empty(), "rows are present that were not to be written");

    auto session = start(trial.model, count);
    trial.load(session);
    LayerWalk<B> walk(trial.model, session, trial.tokens, all, KvWrite::none);
    walk.step_to_end();
    require(all_rows(trial.model, session.cache, count) == trial.reference.rows, "rows changed");
    return trial.measured(trial.require_logits(walk.logits(), all, "with and without writing K and V"));
  });

  report.add("project: only the rows of the batch change", [&] {
    const std::array<Position, 3> some{2, 5, static_cast<Position>(count - 3)};
    auto session = start(trial.model, count);
    for (std::size_t layer = 0; layer < layers; ++layer)
      write_rows(session.cache, layer, {0, count}, trial.rows(trial.other, layer, {0, count}));
    LayerWalk<B>(trial.model, session, trial.tokens, some, KvWrite::all).step_to_end();
    const std::size_t bytes = trial.geometry.kv_row_bytes();
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const auto rows = read_kv_rows(session.cache, trial.geometry, layer, {0, count});
      for (const Position position : all) {
        const TokenRange token{position, position + std::size_t{1}};
        if (std::ranges::find(some, position) == some.end())
          require(same_bits(rows_of(rows, token, bytes), trial.rows(trial.other, layer, token)),
                  "row " + std::to_string(position) + " of layer " + std::to_string(layer) + " changed");
        else if (layer == 0)
          trial.require_rows(rows_of(rows, token, bytes), 0, token, "in a batch of three and in one of all");
      }
    }
    return std::string();
  });
}

/// What may happen to the rows of a batch between the steps, and which rows attention needs.
template <ModelBackend B>
void check_rows(const Trial<B>& trial, ConformanceReport& report) {
  const std::size_t count = trial.tokens.size(), layers = trial.geometry.layers;
  const auto all = trial.positions({0, count});

  report.add("batch: rows dropped between any two steps do not change the others", [&] {
    const std::array<RowRange, 3> kept{RowRange{1, 2}, RowRange{4, 7}, RowRange{count - 2, count}};
    std::vector<Position> left;
    for (const auto& range : kept) left.insert(left.end(), all.begin() + range.begin, all.begin() + range.end);
    double largest = 0;
    for (const std::size_t layer : {std::size_t{0}, layers / 2, layers - 1})
      for (std::size_t steps = 3 * layer + 1; steps <= 3 * layer + 4; ++steps) {
        auto session = start(trial.model, count);
        trial.load(session);
        LayerWalk<B> walk(trial.model, session, trial.tokens, all, KvWrite::missing);
        for (std::size_t taken = 0; taken < steps; ++taken) walk.step();
        session.batch.keep(kept);
        walk.step_to_end();
        largest = std::max(largest, trial.require_logits(walk.logits(), left,
                                                         "of rows that stayed after step " + std::to_string(steps)));
      }
    return trial.measured(largest);
  });

  report.add("attend: a key that a row sees and that is not there is refused", [&] {
    const std::size_t hole = count / 2;
    for (const std::size_t row : {hole, hole + 1, count - 1}) {  // its own key, the one before, one far back
      auto session = start(trial.model, count);
      write_rows(session.cache, 0, {0, hole}, trial.rows(trial.reference, 0, {0, hole}));
      write_rows(session.cache, 0, {hole + 1, count}, trial.rows(trial.reference, 0, {hole + 1, count}));
      const std::array<Position, 2> positions{1, static_cast<Position>(row)};
      LayerWalk<B> walk(trial.model, session, trial.tokens, positions, KvWrite::none);
      walk.step();
      walk.step();
      require_refused([&] { walk.step(); },
                      "attention of row " + std::to_string(row) + " without key " + std::to_string(hole));
    }
    return std::string();
  });

  report.add("attend: keys that no row sees need not be there", [&] {
    const auto early = trial.positions({0, count / 2});
    auto session = start(trial.model, count);
    write_rows(session.cache, 0, {count / 2 + 1, count}, trial.rows(trial.other, 0, {count / 2 + 1, count}));
    LayerWalk<B> walk(trial.model, session, trial.tokens, early, KvWrite::all);
    walk.step_to_end();
    return trial.measured(trial.require_logits(walk.logits(), early, "without and with later keys"));
  });

  report.add("logits: any range of rows gives what all rows give", [&] {
    auto session = start(trial.model, count);
    LayerWalk<B> walk(trial.model, session, trial.tokens, all, KvWrite::all);
    walk.step_to_end();
    double largest = trial.require_logits(walk.logits(), all, "step by step and through forward");
    for (const RowRange rows : {RowRange{0, 1}, RowRange{3, 7}, RowRange{count - 1, count}}) {
      std::vector<float> values(rows.size() * trial.geometry.vocabulary);
      trial.model.logits(session.batch, rows, values);
      largest = std::max(largest,
                         trial.require_logits(values, trial.positions({rows.begin, rows.end}), "of some rows and all"));
    }
    return trial.measured(largest);
  });
}

/// A caller's mistakes: each throws PreconditionError and none reads or writes elsewhere.
template <ModelBackend B>
void check_mistakes(const Trial<B>& trial, ConformanceReport& report) {
  const std::size_t count = trial.tokens.size(), layers = trial.geometry.layers;

  report.add("mistakes: tokens outside of the vocabulary, and too many or too few, are refused", [&] {
    auto batch = trial.model.make_batch();
    const std::array<Position, 2> positions{0, 1};
    batch.assign(positions);
    for (const Token token : {Token{-1}, static_cast<Token>(trial.geometry.vocabulary), INT32_MIN, INT32_MAX})
      require_refused(
          [&] {
            trial.model.embed(std::array{Token{0}, token}, batch);
          },
          "embed of token " + std::to_string(token));
    require_refused([&] { trial.model.embed(std::array{Token{0}}, batch); }, "embed of one token for two rows");
    require_refused(
        [&] {
          trial.model.embed(std::array{Token{0}, Token{0}, Token{0}}, batch);
        },
        "embed of three tokens for two rows");
    return std::string();
  });

  report.add("mistakes: layers beyond the last are refused", [&] {
    auto session = start(trial.model, count);
    LayerWalk<B> walk(trial.model, session, trial.tokens, trial.positions({0, 2}), KvWrite::all);
    walk.step_to_end();
    for (const std::size_t layer : {layers, layers + 1000}) {
      require_refused([&] { trial.model.project(layer, session.batch, session.cache, KvWrite::all); },
                      "project in a layer beyond the last");
      require_refused([&] { trial.model.attend(layer, session.batch, session.cache, NullObserver{}); },
                      "attend in a layer beyond the last");
      require_refused([&] { trial.model.finish(layer, session.batch); }, "finish of a layer beyond the last");
    }
    return std::string();
  });

  report.add("mistakes: rows that do not exist and logits that do not fit are refused", [&] {
    auto session = start(trial.model, count);
    LayerWalk<B> walk(trial.model, session, trial.tokens, trial.positions({0, 2}), KvWrite::all);
    walk.step_to_end();
    std::vector<float> two(2 * trial.geometry.vocabulary);
    require_refused([&] { trial.model.logits(session.batch, RowRange{1, 3}, two); }, "logits of a row beyond the last");
    require_refused([&] { trial.model.logits(session.batch, RowRange{0, 1}, two); }, "logits with room for two rows");
    require_refused(
        [&] {
          trial.model.logits(session.batch, RowRange{0, 2}, std::span(two).first(two.size() - 1));
        },
        "logits with too little room");
    return std::string();
  });

  report.add("mistakes: positions beyond the cache's capacity are refused", [&] {
    auto session = start(trial.model, count);
    const auto capacity = static_cast<Position>(session.cache.capacity());
    const std::array<Position, 2> positions{capacity - 1, capacity};
    session.batch.assign(positions);
    trial.model.embed(std::array{trial.tokens[0], trial.tokens[1]}, session.batch);
    require_refused([&] { trial.model.project(0, session.batch, session.cache, KvWrite::all); },
                    "project of a position beyond the capacity");
    require(!session.cache.present(0).contains({capacity, capacity + std::size_t{1}}),
            "a row beyond the capacity is present");
    return std::string();
  });
}

}  // namespace krul::conformance
