#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/cuda/staging_ring.hpp"
#include "krul/model/decoder_file.hpp"

namespace krul::cuda {

/// The weights of a llama or qwen2 model in a device's memory: matrices in the type of the products, unpacked once,
/// vectors in f32. The embedding stays in the file: its rows are read there when they are needed.
template <DeviceApi Device>
class DeviceWeights {
 public:
  struct Layer {
    const float *attention_norm, *mlp_norm;  ///< [hidden]
    const float* bias;                       ///< [(H + 2 G) D]; null: none
    const std::byte* query_key_value;        ///< [(H + 2 G) D, hidden]
    const std::byte* output;                 ///< [hidden, H * D]
    const std::byte* gate_up;                ///< [2, mlp, hidden]
    const std::byte* down;                   ///< [hidden, mlp]
  };

  /// @return too_large, with the bytes, if the device has no memory for them; corrupt if a tensor holds numbers that
  ///         are not finite, or too large for `type`; backend if the device fails
  [[nodiscard]] static Result<DeviceWeights> load(Device& device, StagingRing<Device>& ring, const GgufFile& file,
                                                  const DecoderFile& model, ElementType type) try {
    DeviceWeights weights(model, type);
    auto memory = device.allocate(weights.bytes_);
    if (!memory && memory.error().code != ErrorCode::no_space) return propagate(memory);
    if (!memory)
      return fail(ErrorCode::too_large, "the weights take " + std::to_string(weights.bytes_ >> 20) + " MiB as " +
                                            std::string(name(type)) +
                                            " on the device, which has not so much left: " + memory.error().message);
    weights.memory_.emplace(std::move(*memory));
    for (const Part& part : weights.parts_)
      if (auto status = weights.copy(ring, file, part); !status) return propagate(status);
    weights.parts_.clear();
    return weights;
  } catch (const ResultError& error) {
    return tl::unexpected<Error>(error.error);
  }

  [[nodiscard]] Layer layer(std::size_t index) const {
    const Offsets& at = layers_.at(index);
    const auto vector = [&](std::size_t offset) { return reinterpret_cast<const float*>(memory_->data() + offset); };
    return {vector(at.attention_norm),
            vector(at.mlp_norm),
            at.has_bias ? vector(at.bias) : nullptr,
            memory_->data() + at.query_key_value,
            memory_->data() + at.output,
            memory_->data() + at.gate_up,
            memory_->data() + at.down};
  }
  [[nodiscard]] const float* output_norm() const {  ///< [hidden]
    return reinterpret_cast<const float*>(memory_->data() + output_norm_);
  }
  [[nodiscard]] const std::byte* output() const { return memory_->data() + output_; }  ///< [vocabulary, hidden]
  [[nodiscard]] TouchedBytes memory() const noexcept { return {memory_->data(), bytes_, false}; }

 private:
  /// Some rows of a tensor, and where they go; without a tensor they are zeros.
  struct Part {
    const GgufTensor* tensor;
    std::size_t rows, width, offset;
    ElementType type;
  };
  struct Offsets {
    std::size_t attention_norm, mlp_norm, bias, query_key_value, output, gate_up, down;
    bool has_bias;
  };

  DeviceWeights(const DecoderFile& model, ElementType type) {
    const Geometry& geometry = model.geometry;
    const std::size_t hidden = geometry.hidden, queries = geometry.query_heads * geometry.head_dim,
                      kv = geometry.kv_values();
    for (const DecoderFile::Layer& from : model.layers) {
      Offsets at{};
      at.attention_norm = add({{from.attention_norm, 1, hidden}}, ElementType::f32);
      at.mlp_norm = add({{from.mlp_norm, 1, hidden}}, ElementType::f32);
      at.has_bias = from.query_bias != nullptr || from.key_bias != nullptr || from.value_bias != nullptr;
      if (at.has_bias)
        at.bias =
            add({{from.query_bias, 1, queries}, {from.key_bias, 1, kv}, {from.value_bias, 1, kv}}, ElementType::f32);
      at.query_key_value = add({{from.query, queries, hidden}, {from.key, kv, hidden}, {from.value, kv, hidden}}, type);
      at.output = add({{from.output, hidden, queries}}, type);
      at.gate_up = add({{from.gate, model.mlp, hidden}, {from.up, model.mlp, hidden}}, type);
      at.down = add({{from.down, hidden, model.mlp}}, type);
      layers_.push_back(at);
    }
    output_norm_ = add({{model.output_norm, 1, hidden}}, ElementType::f32);
    output_ = add({{model.output, geometry.vocabulary, hidden}}, type);
  }

  struct Rows {
    const GgufTensor* tensor;
    std::size_t rows, width;
  };
  /// Tensors that lie one behind the other.
  std::size_t add(std::initializer_list<Rows> tensors, ElementType type) {
    constexpr std::size_t alignment = 256;
    const std::size_t begin = bytes_ = (bytes_ + alignment - 1) / alignment * alignment;
    for (const Rows& each : tensors) {
      parts_.push_back({each.tensor, each.rows, each.width, bytes_, type});
      bytes_ += each.rows * each.width * size_of(type);
    }
    return begin;
  }

  [[nodiscard]] Status copy(StagingRing<Device>& ring, const GgufFile& file, const Part& part) const {
    constexpr std::size_t most_values = std::size_t{1} << 20;
    const std::size_t most_rows = std::max<std::size_t>(most_values / part.width, 1);
    std::vector<float> values;
    std::vector<std::byte> rounded;
    for (std::size_t row = 0, count; row < part.rows; row += count) {
      count = std::min(most_rows, part.rows - row);
      values.assign(count * part.width, 0.0F);
      if (part.tensor != nullptr)
        if (auto status = read_finite_rows(file, *part.tensor, row, values); !status) return status;
      rounded.resize(values.size() * size_of(part.type));
      from_float(part.type, values, rounded);
      ring.to_device(memory_->data() + part.offset + row * part.width * size_of(part.type), rounded);
    }
    return {};
  }

  std::optional<typename Device::Memory> memory_;
  std::size_t bytes_ = 0, output_norm_ = 0, output_ = 0;
  std::vector<Offsets> layers_;  // [L]
  std::vector<Part> parts_;      // what is still to be copied
};

}  // namespace krul::cuda
