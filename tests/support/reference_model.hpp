#pragma once

#include <cstddef>
#include <vector>

#include "krul/model/decoder_file.hpp"
#include "krul/reference/forward.hpp"

namespace krul::testing {

/// Every value of a tensor, unpacked.
[[nodiscard]] inline std::vector<double> unpacked(const GgufTensor* tensor) {
  if (tensor == nullptr) return {};
  std::vector<float> values(static_cast<std::size_t>(tensor->values()));
  const auto status = read_rows(*tensor, 0, values);
  expects(status.has_value(), "unpacked: the tensor cannot be read");
  return {values.begin(), values.end()};
}

/// A model file's weights for the reference forward pass.
[[nodiscard]] inline reference::Decoder reference_decoder(const DecoderFile& file) {
  const auto matrix = [](const GgufTensor* tensor) {
    return reference::Matrix{static_cast<std::size_t>(tensor->shape[1]), static_cast<std::size_t>(tensor->shape[0]),
                             unpacked(tensor)};
  };
  reference::Decoder decoder;
  decoder.geometry = file.geometry;
  decoder.norm_epsilon = static_cast<double>(file.norm_epsilon);
  decoder.embedding = matrix(file.embedding);
  decoder.output = matrix(file.output);
  decoder.output_norm = unpacked(file.output_norm);
  for (const auto& layer : file.layers)
    decoder.layers.push_back({unpacked(layer.attention_norm), unpacked(layer.mlp_norm), matrix(layer.query),
                              matrix(layer.key), matrix(layer.value), matrix(layer.output), matrix(layer.gate),
                              matrix(layer.up), matrix(layer.down), unpacked(layer.query_bias),
                              unpacked(layer.key_bias), unpacked(layer.value_bias)});
  return decoder;
}

}  // namespace krul::testing
