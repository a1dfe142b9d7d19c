#pragma once

#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"
#include "krul/reference/attention.hpp"

namespace krul::reference {

/// Row-major, [rows, columns].
struct Matrix {
  std::size_t rows = 0, columns = 0;
  std::vector<double> values;
};

/// All weights of a llama or qwen2 model, unpacked. Matrices are [outputs, inputs].
struct Decoder {
  struct Layer {
    std::vector<double> attention_norm, mlp_norm;  // [hidden]
    Matrix query, key, value, output, gate, up, down;
    std::vector<double> query_bias, key_bias, value_bias;  // or empty
  };
  Geometry geometry;
  double norm_epsilon = 0;
  Matrix embedding, output;  // [vocabulary, hidden]
  std::vector<double> output_norm;
  std::vector<Layer> layers;
};

/// What a pass over a whole sequence leaves.
struct Pass {
  std::vector<double> logits;                     ///< [T, vocabulary]
  std::vector<std::vector<double>> keys, values;  ///< per layer [T, G, D]; keys after the rotary embedding
};

/// matrix * x + bias; the bias may be empty.
[[nodiscard]] inline std::vector<double> affine(const Matrix& matrix, std::span<const double> x,
                                                std::span<const double> bias = {}) {
  std::vector<double> y(matrix.rows);
  for (std::size_t r = 0; r < matrix.rows; ++r) {
    for (std::size_t c = 0; c < matrix.columns; ++c) y[r] += matrix.values[r * matrix.columns + c] * x[c];
    if (!bias.empty()) y[r] += bias[r];
  }
  return y;
}

[[nodiscard]] inline std::vector<double> rms_norm(std::span<const double> x, std::span<const double> weight,
                                                  double epsilon) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + epsilon) * weight[i];
  return y;
}

/// Turns each head of [n, head_dim] in place.
inline void rotate(const Rotary& rotary, Position position, std::span<double> heads, std::size_t head_dim) {
  const std::size_t pairs = rotary.dimensions / 2;
  for (std::size_t head = 0; head < heads.size(); head += head_dim)
    for (std::size_t i = 0; i < pairs; ++i) {
      const double angle =
          position * std::pow(rotary.base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary.dimensions));
      const bool interleaved = rotary.pairs == RotaryPairs::interleaved;
      double& x = heads[head + (interleaved ? 2 * i : i)];
      double& y = heads[head + (interleaved ? 2 * i + 1 : i + pairs)];
      const double turned = x * std::cos(angle) - y * std::sin(angle);
      y = y * std::cos(angle) + x * std::sin(angle);
      x = turned;
    }
}

/// Twin of a CPU backend: one sequence from its first token, layer by layer, everything in double and nothing reused.
[[nodiscard]] inline Pass forward(const Decoder& model, std::span<const Token> tokens) {
  const Geometry& geometry = model.geometry;
  std::vector<Position> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), Position{0});
  std::vector<std::vector<double>> hidden;
  for (const Token token : tokens) {
    const auto row = model.embedding.values.begin() + static_cast<std::ptrdiff_t>(token * geometry.hidden);
    hidden.emplace_back(row, row + static_cast<std::ptrdiff_t>(geometry.hidden));
  }
  Pass pass;
  for (const auto& layer : model.layers) {
    std::vector<double> queries, keys, values;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const auto normed = rms_norm(hidden[t], layer.attention_norm, model.norm_epsilon);
      auto query = affine(layer.query, normed, layer.query_bias);
      auto key = affine(layer.key, normed, layer.key_bias);
      const auto value = affine(layer.value, normed, layer.value_bias);
      rotate(geometry.rotary, positions[t], query, geometry.head_dim);
      rotate(geometry.rotary, positions[t], key, geometry.head_dim);
      queries.insert(queries.end(), query.begin(), query.end());
      keys.insert(keys.end(), key.begin(), key.end());
      values.insert(values.end(), value.begin(), value.end());
    }
    const auto attended = attention(geometry, positions, queries, keys, values);
    const std::size_t width = geometry.query_heads * geometry.head_dim;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const auto add = [&](const std::vector<double>& more) {
        for (std::size_t i = 0; i < more.size(); ++i) hidden[t][i] += more[i];
      };
      add(affine(layer.output, std::span(attended.out).subspan(t * width, width)));
      const auto normed = rms_norm(hidden[t], layer.mlp_norm, model.norm_epsilon);
      auto activated = affine(layer.gate, normed);
      const auto up = affine(layer.up, normed);
      for (std::size_t i = 0; i < up.size(); ++i) activated[i] *= up[i] / (1 + std::exp(-activated[i]));
      add(affine(layer.down, activated));
    }
    pass.keys.push_back(std::move(keys));
    pass.values.push_back(std::move(values));
  }
  for (const auto& row : hidden) {
    const auto logits = affine(model.output, rms_norm(row, model.output_norm, model.norm_epsilon));
    pass.logits.insert(pass.logits.end(), logits.begin(), logits.end());
  }
  return pass;
}

}  // namespace krul::reference
