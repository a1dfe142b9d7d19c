#pragma once

// A whole model backend for krul in one file, from outside the library: a transformer of four layers in plain loops.
// Its weights come from a formula, so that it needs no model file.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <krul/backend/host_kv_cache.hpp>
#include <krul/backend/model_backend.hpp>
#include <krul/core/half.hpp>
#include <span>
#include <vector>

namespace toy {

/// [outputs, inputs], drawn from a fixed sequence and scaled so that outputs are about as large as inputs.
struct Matrix {
  std::size_t outputs, inputs;
  std::vector<float> values;

  Matrix(std::size_t outputs_, std::size_t inputs_, std::uint64_t& sequence)
      : outputs(outputs_), inputs(inputs_), values(outputs_ * inputs_) {
    const float scale = std::sqrt(3.0F / static_cast<float>(inputs));
    for (auto& value : values) {
      sequence = sequence * 6364136223846793005U + 1442695040888963407U;
      value = scale * (static_cast<float>(sequence >> 40) * 0x1p-23F - 1.0F);
    }
  }

  [[nodiscard]] std::vector<float> operator*(std::span<const float> vector) const {
    std::vector<float> product(outputs);
    for (std::size_t row = 0; row < outputs; ++row)
      for (std::size_t i = 0; i < inputs; ++i) product[row] += values[row * inputs + i] * vector[i];
    return product;
  }
};

struct Layer {
  Matrix query, key, value, output, up, down;
};

class Backend {
 public:
  using Cache = krul::HostKvCache;
  using Batch = krul::HostLayerBatch;

  explicit Backend(krul::ElementType cache_type = krul::ElementType::f16)
      : Backend(krul::Geometry{.layers = 4,
                               .query_heads = 4,
                               .kv_heads = 2,
                               .head_dim = 8,
                               .hidden = 32,
                               .vocabulary = 64,
                               .context = 512,
                               .cache_type = cache_type,
                               .rotary = {.pairs = krul::RotaryPairs::halves, .dimensions = 8, .base = 10000.0}}) {}

  /// Of other sizes; the heads of a query fill the hidden state, the rotary embedding whole heads or nothing.
  explicit Backend(const krul::Geometry& geometry) : geometry_(geometry) {
    identity_ = {.architecture = "toy",
                 .weights = "5",
                 .tokenizer = "0",
                 .geometry = krul::describe(geometry_),
                 .profile = "",
                 .kernels = "loops",
                 .processor = "any",
                 .threads = "1"};
    const std::size_t hidden = geometry_.hidden, kv = geometry_.kv_values();
    for (std::size_t layer = 0; layer < geometry_.layers; ++layer)
      layers_.push_back({{hidden, hidden, sequence_},
                         {kv, hidden, sequence_},
                         {kv, hidden, sequence_},
                         {hidden, hidden, sequence_},
                         {2 * hidden, hidden, sequence_},
                         {hidden, 2 * hidden, sequence_}});
  }

  const krul::Geometry& geometry() const { return geometry_; }
  const krul::Identity& identity() const { return identity_; }
  Cache make_cache(std::size_t capacity) const { return Cache(geometry_, capacity); }
  Batch make_batch() const { return Batch(geometry_); }

  /// Tokens to hidden states.
  void embed(std::span<const krul::Token> tokens, Batch& batch) const {
    krul::expects(tokens.size() == batch.rows(), "toy: one token a row");
    for (std::size_t row = 0; row < tokens.size(); ++row) {
      const auto token = static_cast<std::size_t>(tokens[row]);
      krul::expects(token < geometry_.vocabulary, "toy: no such token");
      std::ranges::copy(std::span(embedding_.values).subspan(token * geometry_.hidden, geometry_.hidden),
                        hidden(batch, row).begin());
    }
  }

  /// Queries stay in the batch; keys and values go to the cache, as far as `write` wants them.
  void project(std::size_t layer, Batch& batch, Cache& cache, krul::KvWrite write) const {
    const Layer& weights = at(layer);
    std::vector<std::byte> key_bytes(geometry_.kv_row_bytes()), value_bytes(geometry_.kv_row_bytes());
    for (std::size_t row = 0; row < batch.rows(); ++row) {
      const krul::Position position = batch.positions()[row];
      const auto input = normalized(hidden(batch, row));
      auto query = weights.query * input;
      rotate(query, position);
      std::ranges::copy(query, batch.queries().begin() + static_cast<std::ptrdiff_t>(row * query.size()));

      const krul::TokenRange token{position, std::size_t{position} + 1};
      if (write == krul::KvWrite::none) continue;
      if (write == krul::KvWrite::missing && cache.present(layer).contains(token)) continue;
      auto key = weights.key * input;
      rotate(key, position);
      krul::from_float(geometry_.cache_type, key, key_bytes);
      krul::from_float(geometry_.cache_type, weights.value * input, value_bytes);
      cache.write_kv(layer, token, {key_bytes, value_bytes});
    }
  }

  /// Softmax of query times key over all earlier tokens, then the mean of their values.
  template <krul::AttentionObserver Observer>
  void attend(std::size_t layer, Batch& batch, Cache& cache, Observer&& observer) const {
    at(layer);
    const auto positions = batch.positions();
    const std::size_t rows = positions.size(), keys = rows == 0 ? 0 : positions.back() + std::size_t{1};
    krul::expects(cache.present(layer).contains({0, keys}), "toy: a key that a row sees is not in the cache");
    const std::size_t dim = geometry_.head_dim, width = geometry_.kv_values(), heads = geometry_.query_heads;
    std::vector<float> key(keys * width), value(keys * width), weights(heads * rows * keys);
    krul::to_float(geometry_.cache_type, cache.view(layer).keys.first(keys * geometry_.kv_row_bytes()), key);
    krul::to_float(geometry_.cache_type, cache.view(layer).values.first(keys * geometry_.kv_row_bytes()), value);

    std::ranges::fill(batch.attention(), 0.0F);
    for (std::size_t head = 0; head < heads; ++head) {
      const std::size_t kv_offset = head * geometry_.kv_heads / heads * dim;
      for (std::size_t row = 0; row < rows; ++row) {
        const auto query = batch.queries().subspan((row * heads + head) * dim, dim);
        const auto mean = batch.attention().subspan((row * heads + head) * dim, dim);
        const auto weight = std::span(weights).subspan((head * rows + row) * keys, positions[row] + std::size_t{1});
        float sum = 0;
        for (std::size_t k = 0; k < weight.size(); ++k) {
          float score = 0;
          for (std::size_t d = 0; d < dim; ++d) score += query[d] * key[k * width + kv_offset + d];
          sum += weight[k] = std::exp(score / std::sqrt(static_cast<float>(dim)));
        }
        for (std::size_t k = 0; k < weight.size(); ++k) {
          weight[k] /= sum;
          for (std::size_t d = 0; d < dim; ++d) mean[d] += weight[k] * value[k * width + kv_offset + d];
        }
      }
    }
    if (rows > 0) observer(krul::AttentionBlock{layer, positions, keys, heads, weights});
  }

  /// Output projection and MLP, each added to the residual stream.
  void finish(std::size_t layer, Batch& batch) const {
    const Layer& weights = at(layer);
    for (std::size_t row = 0; row < batch.rows(); ++row) {
      const auto state = hidden(batch, row);
      add(state, weights.output * batch.attention().subspan(row * geometry_.hidden, geometry_.hidden));
      auto inner = weights.up * normalized(state);
      for (auto& unit : inner) unit = std::max(unit, 0.0F);
      add(state, weights.down * inner);
    }
  }

  /// Next-token logits of some rows: [rows, vocabulary].
  void logits(Batch& batch, krul::RowRange rows, std::span<float> out) const {
    krul::expects(rows.begin <= rows.end && rows.end <= batch.rows(), "toy: no such rows");
    krul::expects(out.size() == rows.size() * geometry_.vocabulary, "toy: logits do not fit");
    for (std::size_t row = rows.begin; row < rows.end; ++row)
      std::ranges::copy(output_ * normalized(hidden(batch, row)),
                        out.subspan((row - rows.begin) * geometry_.vocabulary).begin());
  }

 private:
  const Layer& at(std::size_t layer) const {
    krul::expects(layer < layers_.size(), "toy: no such layer");
    return layers_[layer];
  }
  std::span<float> hidden(Batch& batch, std::size_t row) const {
    return batch.hidden().subspan(row * geometry_.hidden, geometry_.hidden);
  }
  static void add(std::span<float> to, const std::vector<float>& values) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += values[i];
  }
  static std::vector<float> normalized(std::span<const float> values) {
    float squares = 0;
    for (const float value : values) squares += value * value;
    std::vector<float> result(values.begin(), values.end());
    for (auto& value : result) value /= std::sqrt(squares / static_cast<float>(values.size()) + 1e-5F);
    return result;
  }
  /// Turns dimensions (i, i + D/2) of every head by position * base^(-2i/D).
  void rotate(std::vector<float>& heads, krul::Position position) const {
    const std::size_t dim = geometry_.rotary.dimensions;
    for (std::size_t i = 0; i < dim / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(dim);
      const double angle = position * std::pow(geometry_.rotary.base, exponent);
      const auto c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
      for (std::size_t first = i; first < heads.size(); first += dim) {
        const float a = heads[first], b = heads[first + dim / 2];
        heads[first] = a * c - b * s;
        heads[first + dim / 2] = a * s + b * c;
      }
    }
  }

  krul::Geometry geometry_;
  krul::Identity identity_;
  std::uint64_t sequence_ = 5;
  Matrix embedding_{geometry_.vocabulary, geometry_.hidden, sequence_},
      output_{geometry_.vocabulary, geometry_.hidden, sequence_};
  std::vector<Layer> layers_;
};
static_assert(krul::ModelBackend<Backend>);

}  // namespace toy
