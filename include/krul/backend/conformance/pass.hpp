#pragma once

#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/conformance/rows.hpp"
#include "krul/backend/forward.hpp"
#include "krul/backend/model_backend.hpp"
#include "krul/core/conformance_report.hpp"

namespace krul::conformance {

/// What belongs to one conversation.
template <ModelBackend B>
struct Session {
  typename B::Cache cache;
  typename B::Batch batch;
};

template <ModelBackend B>
Session<B> start(B& model, std::size_t capacity) {
  return {model.make_cache(capacity), model.make_batch()};
}

/// Everything that a run of T tokens leaves behind.
struct Outcome {
  std::vector<float> logits;      ///< [T, vocabulary]
  std::vector<OwnedKvRows> rows;  ///< [L], each of T tokens
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

template <ModelBackend B>
std::vector<OwnedKvRows> all_rows(const B& model, const typename B::Cache& cache, std::size_t tokens) {
  std::vector<OwnedKvRows> rows;
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer)
    rows.push_back(read_kv_rows(cache, model.geometry(), layer, {0, tokens}));
  return rows;
}

/// Runs the tokens one piece after another in a new cache; the last piece takes what is left.
template <ModelBackend B>
Outcome run(B& model, std::span<const Token> tokens, std::span<const std::size_t> pieces) {
  const std::size_t vocabulary = model.geometry().vocabulary;
  auto session = start(model, tokens.size());
  Outcome outcome;
  outcome.logits.resize(tokens.size() * vocabulary);
  std::size_t begin = 0;
  const auto take = [&](std::size_t count) {
    forward(model, session.cache, session.batch, tokens.subspan(begin, count),
            std::span(outcome.logits).subspan(begin * vocabulary, count * vocabulary));
    begin += count;
  };
  for (const std::size_t piece : pieces) take(piece);
  if (begin < tokens.size()) take(tokens.size() - begin);
  outcome.rows = all_rows(model, session.cache, tokens.size());
  return outcome;
}

/// A pass whose steps the caller takes one by one: embed, then project, attend and finish of each layer.
template <ModelBackend B>
class LayerWalk {
 public:
  /// `tokens` are those of the whole conversation; the batch's positions choose among them.
  LayerWalk(B& model, Session<B>& session, std::span<const Token> tokens, std::span<const Position> positions,
            KvWrite write)
      : model_(model), session_(session), write_(write) {
    for (const Position position : positions) tokens_.push_back(tokens[position]);
    session.batch.assign(positions);
  }

  /// Takes the next step; false if there was none left.
  bool step() {
    const std::size_t layers = model_.geometry().layers;
    if (steps_ > 3 * layers) return false;
    auto& [cache, batch] = session_;
    const std::size_t layer = steps_ == 0 ? 0 : (steps_ - 1) / 3;
    if (steps_ == 0)
      model_.embed(tokens_, batch);
    else if (steps_ % 3 == 1)
      model_.project(layer, batch, cache, write_);
    else if (steps_ % 3 == 2)
      model_.attend(layer, batch, cache, NullObserver{});
    else
      model_.finish(layer, batch);
    ++steps_;
    return true;
  }

  void step_to_end() {
    while (step()) {
    }
  }

  /// Logits of all rows that are left: [R, vocabulary].
  std::vector<float> logits() {
    const std::size_t rows = session_.batch.positions().size();
    std::vector<float> values(rows * model_.geometry().vocabulary);
    model_.logits(session_.batch, RowRange{0, rows}, values);
    return values;
  }

 private:
  B& model_;
  Session<B>& session_;
  KvWrite write_;
  std::vector<Token> tokens_;
  std::size_t steps_ = 0;
};

/// What every check of a backend starts from.
template <ModelBackend B>
struct Trial {
  B& model;
  const Geometry& geometry;
  double tolerance;           ///< relative, of logits and of K and V rows
  std::vector<Token> tokens;  ///< [T] a conversation
  std::vector<Token> others;  ///< [T] and a different one
  Outcome reference;          ///< `tokens` run at once
  Outcome other;              ///< `others` run at once

  /// The rows `range` of one layer of the reference run.
  [[nodiscard]] KvRows rows(const Outcome& outcome, std::size_t layer, TokenRange range) const {
    return rows_of(outcome.rows[layer], range, geometry.kv_row_bytes());
  }

  /// Fills a session's cache with the reference's rows of all layers.
  void load(Session<B>& session) const {
    for (std::size_t layer = 0; layer < geometry.layers; ++layer)
      write_rows(session.cache, layer, {0, tokens.size()}, rows(reference, layer, {0, tokens.size()}));
  }

  [[nodiscard]] std::vector<Position> positions(TokenRange range) const {
    std::vector<Position> result(range.size());
    std::iota(result.begin(), result.end(), static_cast<Position>(range.begin));
    return result;
  }

  /// The reference's logits of the rows at `positions`.
  [[nodiscard]] std::vector<float> reference_logits(std::span<const Position> positions) const {
    std::vector<float> result;
    for (const Position position : positions) {
      const auto row = std::span(reference.logits).subspan(position * geometry.vocabulary, geometry.vocabulary);
      result.insert(result.end(), row.begin(), row.end());
    }
    return result;
  }

  /// @throws Broken if logits, [R, vocabulary], are further from the reference's at `positions` than the tolerance
  double require_logits(std::span<const float> logits, std::span<const Position> positions,
                        const std::string& what) const {
    return require_close(relative_difference(logits, reference_logits(positions), geometry.vocabulary),
                         "logits " + what);
  }

  /// @throws Broken if the rows `range` of a layer are further from the reference's than the tolerance
  double require_rows(KvRows rows_found, std::size_t layer, TokenRange range, const std::string& what) const {
    return require_close(relative_difference(rows_found, rows(reference, layer, range), geometry),
                         "K or V rows of layer " + std::to_string(layer) + " " + what);
  }

  double require_close(double difference, const std::string& what) const {
    require(difference <= tolerance,
            what + " differ by " + std::to_string(difference) + ", allowed are " + std::to_string(tolerance));
    return difference;
  }

  [[nodiscard]] std::string measured(double difference) const {
    return "largest relative difference " + std::to_string(difference) + ", allowed " + std::to_string(tolerance);
  }
};

}  // namespace krul::conformance
