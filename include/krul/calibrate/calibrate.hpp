#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/backend/lends_hidden_states.hpp"
#include "krul/backend/mean_divergence.hpp"
#include "krul/backend/owned_kv_rows.hpp"
#include "krul/calibrate/error_weights.hpp"
#include "krul/calibrate/fit.hpp"
#include "krul/calibrate/moments.hpp"
#include "krul/compress/coded_copy.hpp"
#include "krul/compress/joint/block_rotation.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/compress/token_features.hpp"
#include "krul/core/half.hpp"

namespace krul {

/// A batch that shows what attention works on: what it takes to see what errors do.
template <class B>
concept LendsAttention = LendsHiddenStates<B> && requires(B& batch) {
  { batch.queries() } -> std::convertible_to<std::span<float>>;    ///< [R, H, D], with the rotary embedding
  { batch.attention() } -> std::convertible_to<std::span<float>>;  ///< [R, H, D], after attend
};

struct CalibrationSettings {
  std::vector<std::size_t> groups = {2, 4, 8};  ///< layers of each group; the last one repeats
  std::size_t conversation = 1024;              ///< tokens of a conversation that are looked at
  std::size_t observed_every = 3;               ///< attention is looked at in every so many conversations
  std::size_t trials = 4;                       ///< conversations on which sensitivities and steps are measured
  std::size_t fresh = 64;                       ///< tokens after the history whose predictions are compared
  double target_kl = 0.009;                     ///< of code 0, over the trials
  double keys_worth = 1.7;  ///< how much more an error of K counts than the trials say: whoever looks something up
                            ///< needs keys that are alike told apart, and conversations that go on rarely do
  bool features = true;     ///< predict rows from their tokens
  FitSettings fit = {};
};

/// What is calibrated on.
struct CalibrationInput {
  std::span<const std::vector<Token>> conversations;
  std::span<const std::vector<float>> outputs = {};  ///< [L][hidden, H * D] the model's output matrices, if at hand
};

/// Called now and then with what is being done, how much of it is done, and how much there is.
using CalibrationProgress = std::function<void(std::string_view, std::size_t, std::size_t)>;

namespace detail {

/// K and V of some of a cache's tokens, [T, L, G, D] each, keys with the rotary embedding undone.
struct PlainRows {
  std::vector<float> keys, values;
};
template <KvCache Cache>
[[nodiscard]] PlainRows plain_rows(const Cache& cache, const Geometry& geometry, TokenRange tokens);

/// Calibrates one model. The steps of calibrate_profile, which share its data.
template <ModelBackend B>
requires LendsAttention<typename B::Batch>
class Calibration {
 public:
  Calibration(B& model, const CalibrationInput& input, const CalibrationSettings& settings, Workers& workers,
              const CalibrationProgress& progress)
      : model_(model),
        geometry_(model.geometry()),
        input_(input),
        settings_(settings),
        workers_(workers),
        progress_(progress),
        moments_(geometry_, settings.features ? geometry_.hidden : 0, settings.groups),
        weights_(geometry_, input.outputs, workers) {}

  ProfileData run() {
    for (std::size_t i = 0; i < input_.conversations.size(); ++i) {
      progress_("looking at conversations", i, input_.conversations.size());
      look_at(i);
    }
    if (moments_.tokens() <= 1)
      throw PreconditionError("calibrate_profile: no conversation has " + std::to_string(shortest) +
                              " tokens; give two dozen of " + std::to_string(least_of_trial()) + " or more");
    key_weights_ = weights_.keys();
    value_weights_ = weights_.values();
    choose_trials();
    measure_sensitivities();
    return fit_to_target();
  }

 private:
  static constexpr std::size_t first_tokens = ErrorWeights::first_tokens;  // they would be most of the covariance
  static constexpr std::size_t shortest = 64;

  struct Trial {
    std::vector<Token> tokens;
    std::size_t history;
    typename B::Cache cache;                 ///< of the history, and room for the fresh tokens
    TokenFeatures features;                  ///< of the history, if there are any
    std::vector<std::vector<float>> inputs;  ///< [L][fresh, hidden] what goes into each layer
    std::vector<float> logits;               ///< [fresh, vocabulary]

    [[nodiscard]] std::span<const Token> fresh() const { return std::span(tokens).subspan(history); }
  };

  void look_at(std::size_t index) {
    auto tokens = std::span(input_.conversations[index]);
    tokens = tokens.first(std::min(tokens.size(), settings_.conversation));
    if (tokens.size() < shortest) return;
    auto cache = model_.make_cache(tokens.size());
    auto batch = model_.make_batch();
    if (index % settings_.observed_every == 0) {
      observe(cache, batch, tokens);
    } else {
      prefill(model_, cache, batch, tokens, {}, tokens.size());
    }
    if (first_row_.empty()) keep_first_row(cache);
    const PlainRows rows = plain_rows(cache, geometry_, {first_tokens, tokens.size()});
    const TokenFeatures features = settings_.features ? TokenFeatures(model_, tokens, first_tokens) : TokenFeatures{};
    moments_.add(rows.keys, rows.values, features.of({first_tokens, tokens.size()}), workers_);
  }

  /// K and V at position 0, where the rotary embedding does nothing.
  void keep_first_row(const typename B::Cache& cache) {
    const PlainRows row = plain_rows(cache, geometry_, {0, 1});
    const std::size_t width = geometry_.kv_values();
    for (std::size_t layer = 0; layer < geometry_.layers; ++layer)
      for (const auto* values : {&row.keys, &row.values})
        for (std::size_t i = 0; i < width; ++i) first_row_.push_back(f16_from_float((*values)[layer * width + i]));
  }

  void observe(typename B::Cache& cache, typename B::Batch& batch, std::span<const Token> tokens) {
    std::vector<Position> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), Position{0});
    batch.assign(positions);
    model_.embed(tokens, batch);
    std::vector<float> plain(tokens.size() * geometry_.kv_values());
    for (std::size_t layer = 0; layer < geometry_.layers; ++layer) {
      const double hidden = mean_square(batch.hidden());
      model_.project(layer, batch, cache, KvWrite::all);
      const OwnedKvRows rows = read_finite_kv_rows(cache, geometry_, layer, {0, tokens.size()});
      to_float(geometry_.cache_type, rows.values, plain);
      weights_.begin({plain, batch.queries(), batch.attention(), hidden});
      model_.attend(layer, batch, cache, [&](const AttentionBlock& block) { weights_(block); });
      model_.finish(layer, batch);
    }
    cache.commit(tokens.size());
  }

  [[nodiscard]] double mean_square(std::span<const float> hidden) const {
    double sum = 0;
    const auto rows = hidden.subspan(std::min(hidden.size(), first_tokens * geometry_.hidden));
    for (const float value : rows) sum += double{value} * value;
    return sum / static_cast<double>(std::max<std::size_t>(rows.size(), 1));
  }

  /// Tokens of a conversation that can be a trial.
  [[nodiscard]] std::size_t least_of_trial() const noexcept { return 4 * settings_.fresh; }

  /// The longest conversations, spread over all of them.
  void choose_trials() {
    std::vector<std::size_t> order(input_.conversations.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::erase_if(order, [&](std::size_t i) { return input_.conversations[i].size() < least_of_trial(); });
    const std::size_t count = std::min(settings_.trials, order.size());
    for (std::size_t i = 0; i < count; ++i) {
      const auto& all = input_.conversations[order[i * order.size() / count]];
      const auto tokens = std::span(all).first(std::min(all.size(), settings_.conversation));
      const auto history = tokens.first(tokens.size() - settings_.fresh);
      Trial trial{{tokens.begin(), tokens.end()}, history.size(), model_.make_cache(tokens.size()), {}, {}, {}};
      auto batch = model_.make_batch();
      prefill(model_, trial.cache, batch, history, {});
      if (settings_.features) trial.features = TokenFeatures(model_, history);
      batch.assign(fresh_positions(trial));
      model_.embed(trial.fresh(), batch);
      for (std::size_t layer = 0; layer < geometry_.layers; ++layer) {
        trial.inputs.emplace_back(batch.hidden().begin(), batch.hidden().end());
        pass_layer(layer, batch, trial.cache);
      }
      trial.logits = logits_of(batch, trial.cache);
      trials_.push_back(std::move(trial));
    }
  }

  [[nodiscard]] static std::vector<Position> fresh_positions(const Trial& trial) {
    std::vector<Position> positions(trial.fresh().size());
    std::iota(positions.begin(), positions.end(), static_cast<Position>(trial.history));
    return positions;
  }

  void pass_layer(std::size_t layer, typename B::Batch& batch, typename B::Cache& cache) {
    model_.project(layer, batch, cache, KvWrite::all);
    model_.attend(layer, batch, cache, NullObserver{});
    model_.finish(layer, batch);
  }

  [[nodiscard]] std::vector<float> logits_of(typename B::Batch& batch, const typename B::Cache& cache) {
    std::vector<float> logits(settings_.fresh * geometry_.vocabulary);
    model_.logits(batch, {0, settings_.fresh}, logits);
    require_finite(model_, cache, batch_tokens(batch), logits);
    return logits;
  }
  [[nodiscard]] static TokenRange batch_tokens(const typename B::Batch& batch) {
    return {batch.positions().front(), batch.positions().back() + std::size_t{1}};
  }

  /// Mean KL of a trial whose cache has other rows in one layer: only this layer and those above compute anything else.
  [[nodiscard]] double divergence_from(std::size_t first_layer, Trial& trial) {
    auto batch = model_.make_batch();
    batch.assign(fresh_positions(trial));
    std::copy(trial.inputs[first_layer].begin(), trial.inputs[first_layer].end(), batch.hidden().begin());
    for (std::size_t layer = first_layer; layer < geometry_.layers; ++layer) pass_layer(layer, batch, trial.cache);
    return mean_divergence(trial.logits, logits_of(batch, trial.cache), geometry_.vocabulary, workers_);
  }

  /// Noise of one size in the weighted space.
  /// @param rows     [T, G, D] in the cache's type, from position 0 on
  /// @param inverse  [G, D, D] W^-1, symmetric
  void add_noise(std::span<std::byte> rows, std::span<const float> inverse, bool keys, unsigned seed) const;

  [[nodiscard]] double divergence(const Trial& trial, typename B::Cache& cache) {
    auto batch = model_.make_batch();
    std::vector<float> logits(trial.logits.size());
    prefill(model_, cache, batch, std::span(trial.tokens).subspan(trial.history), logits);
    return mean_divergence(trial.logits, logits, geometry_.vocabulary, workers_);
  }

  /// By how much more than the weights say an error of K, or V, of each layer changes what the model predicts: noise of
  /// one size in the weighted space, tensor by tensor.
  void measure_sensitivities();
  [[nodiscard]] ProfileData fit_to_target();
  [[nodiscard]] double coded_divergence(const std::shared_ptr<const Profile>& profile);

  B& model_;
  const Geometry& geometry_;
  CalibrationInput input_;
  CalibrationSettings settings_;
  Workers& workers_;
  CalibrationProgress progress_;
  KvMoments moments_;
  ErrorWeights weights_;
  std::vector<float> key_weights_, value_weights_;
  std::vector<std::uint16_t> first_row_;  ///< [L, 2, G, D] f16
  std::vector<double> sensitivity_;
  std::vector<Trial> trials_;
};

template <KvCache Cache>
PlainRows plain_rows(const Cache& cache, const Geometry& geometry, TokenRange tokens) {
  const std::size_t width = geometry.kv_values(), count = tokens.size();
  std::vector<float> plain(count * width);
  PlainRows rows{std::vector<float>(count * geometry.layers * width), {}};
  rows.values.resize(rows.keys.size());
  const BlockRotation rotation(geometry.rotary, static_cast<Position>(tokens.begin), count);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    const OwnedKvRows of_layer = read_finite_kv_rows(cache, geometry, layer, tokens);
    for (auto [bytes, to] : {std::pair{&of_layer.keys, &rows.keys}, std::pair{&of_layer.values, &rows.values}}) {
      to_float(geometry.cache_type, *bytes, plain);
      for (std::size_t token = 0; token < count; ++token) {
        const auto row = std::span(plain).subspan(token * width, width);
        if (bytes == &of_layer.keys) rotation.turn_back(token, row, geometry.head_dim);
        std::copy(row.begin(), row.end(), &(*to)[(token * geometry.layers + layer) * width]);
      }
    }
  }
  return rows;
}

template <ModelBackend B>
requires LendsAttention<typename B::Batch>
void Calibration<B>::add_noise(std::span<std::byte> rows, std::span<const float> inverse, bool keys,
                               unsigned seed) const {
  constexpr float deviation = 0.15F;  // of the weighted one: about what coding leaves
  const std::size_t width = geometry_.kv_values(), size = geometry_.head_dim;
  std::vector<float> plain(rows.size() / size_of(geometry_.cache_type)), noise(width);
  to_float(geometry_.cache_type, rows, plain);
  const detail::BlockRotation rotation(geometry_.rotary, 0, plain.size() / width);
  std::minstd_rand random(seed);
  std::normal_distribution<float> normal(0, deviation);
  for (std::size_t token = first_tokens; token < plain.size() / width; ++token) {
    std::fill(noise.begin(), noise.end(), 0.0F);
    for (std::size_t i = 0; i < width; ++i) {
      const float draw = normal(random);
      float* const head = &noise[i / size * size];
      for (std::size_t j = 0; j < size; ++j) head[j] += draw * inverse[i * size + j];
    }
    if (keys) rotation.turn(token, noise, size);
    for (std::size_t i = 0; i < width; ++i) plain[token * width + i] += noise[i];
  }
  from_float(geometry_.cache_type, plain, rows);
}

template <ModelBackend B>
requires LendsAttention<typename B::Batch>
void Calibration<B>::measure_sensitivities() {
  const std::size_t layers = geometry_.layers, width = geometry_.kv_values(), size = geometry_.head_dim;
  if (trials_.empty()) return;
  const std::vector<float> inverse =
      inverse_weights({geometry_, moments_, key_weights_, value_weights_}, settings_.fit, workers_);
  std::vector<double> found(2 * layers);
  for (std::size_t i = 0; i < found.size(); ++i) {
    progress_("measuring what errors do", i, found.size());
    const std::size_t layer = i % layers;
    const auto matrices = std::span<const float>(inverse).subspan(i * width * size, width * size);
    for (Trial& trial : trials_) {
      const TokenRange history{0, trial.history};
      OwnedKvRows exact = read_kv_rows(trial.cache, geometry_, layer, history), noisy = exact;
      add_noise(i < layers ? noisy.keys : noisy.values, matrices, i < layers, static_cast<unsigned>(i + 1));
      trial.cache.wait(trial.cache.write_kv(layer, history, noisy.view()));
      found[i] += divergence_from(layer, trial);
      trial.cache.wait(trial.cache.write_kv(layer, history, exact.view()));
    }
  }
  const double mean = std::accumulate(found.begin(), found.end(), 0.0) / static_cast<double>(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) found[i] *= (i < layers ? settings_.keys_worth : 1) / mean;
  sensitivity_ = std::move(found);
}

template <ModelBackend B>
requires LendsAttention<typename B::Batch>
double Calibration<B>::coded_divergence(const std::shared_ptr<const Profile>& profile) {
  double sum = 0;
  for (const Trial& trial : trials_) {
    auto cache = coded_copy(model_, trial.cache, {.count = trial.history, .capacity = trial.tokens.size()},
                            {profile, {}, trial.features, {.count = 0}}, workers_);
    try {
      sum += divergence(trial, cache);
    } catch (const NotFiniteError&) {  // far too coarse
      return std::numeric_limits<double>::infinity();
    }
  }
  return sum / static_cast<double>(trials_.size());
}

template <ModelBackend B>
requires LendsAttention<typename B::Batch> ProfileData Calibration<B>::fit_to_target() {
  const FitInput input{geometry_, moments_, key_weights_, value_weights_, sensitivity_};
  constexpr std::size_t most_rounds = 6;  // two are usual
  progress_("fitting", 0, most_rounds);
  const ProfileFit fit(input, settings_.fit, workers_);
  double step = 0.6;  // about what the models at hand end with
  for (std::size_t round = 0;; ++round) {
    progress_("fitting", round, most_rounds);
    ProfileData fitted = fit.at(step);
    fitted.first_row = first_row_;
    fitted.model = model_.identity().weights;
    if (trials_.empty())
      fitted.notes = "not tuned: no conversation has " + std::to_string(least_of_trial()) +
                     " tokens, so nobody has seen what errors of each layer do";
    if (trials_.empty() || round == most_rounds) return fitted;
    const auto profile = Profile::create(fitted, geometry_);
    expects(profile.has_value(), "calibrate_profile: what was fitted is a profile");
    // The divergence grows with the square of the step, or a little less.
    const double ratio = settings_.target_kl / coded_divergence(*profile);
    if (ratio > 0.9 && ratio < 1.1) return fitted;
    step *= std::clamp(std::sqrt(ratio), 0.25, 4.0);
  }
}

}  // namespace detail

/// Fits a model's profile to conversations: moments of K and V, what errors do to attention, how much errors of each
/// layer change the predictions, and the step that gives code 0 the wanted divergence.
/// @param input  conversations of [n] tokens each; those shorter than 64 are skipped, and only those of four times
///               settings.fresh tokens tell how much errors count and how coarse the step may be: two dozen of 300
///               tokens or more are a start
/// @return a profile for Profile::create; its `notes` are empty, or say that no conversation was long enough for that
/// @throws PreconditionError if no conversation has 64 tokens, or a matrix has another shape; NotFiniteError, naming
///         the layer, if the model's numbers are not finite
/// @complexity one pass over all tokens, O(n^3) for each group of n values a token, and 2 L + 3 short passes a trial
template <ModelBackend B>
requires LendsAttention<typename B::Batch>
[[nodiscard]] ProfileData calibrate_profile(
    B& model, const CalibrationInput& input, Workers& workers, const CalibrationSettings& settings = {},
    const CalibrationProgress& progress = [](auto...) {}) {
  return detail::Calibration<B>(model, input, settings, workers, progress).run();
}

}  // namespace krul
