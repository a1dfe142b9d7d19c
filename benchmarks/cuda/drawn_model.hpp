#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "krul/simulate/model_shape.hpp"
#include "support/gguf_writer.hpp"

namespace krul::bench {

/// A model file in memory with random weights, for what depends on sizes alone. All matrices are cut from the same bf16
/// numbers, which a file may do: so it is no larger than its largest matrix. Norms and biases are ones.
class DrawnModel {
 public:
  /// @param layers  of the shape's, which are alike
  DrawnModel(const simulate::ModelShape& shape, std::size_t layers) {
    const bool llama = shape.name.starts_with("llama");
    const std::string prefix = llama ? "llama." : "qwen2.";
    set("general.architecture", std::string(llama ? "llama" : "qwen2"));
    const auto size = [&](const char* key, std::size_t value) { set(prefix + key, static_cast<std::uint32_t>(value)); };
    size("block_count", layers);
    size("context_length", 32768);
    size("embedding_length", shape.hidden);
    size("feed_forward_length", shape.feed_forward);
    size("attention.head_count", shape.query_heads);
    size("attention.head_count_kv", shape.kv_heads);
    set(prefix + "rope.freq_base", llama ? 500000.0F : 1000000.0F);
    set(prefix + "attention.layer_norm_rms_epsilon", 1e-5F);

    const std::size_t queries = shape.query_heads * shape.head_dim, kv = shape.kv_values();
    matrix("token_embd.weight", shape.vocabulary, shape.hidden);
    matrix("output.weight", shape.vocabulary, shape.hidden);
    ones("output_norm.weight", shape.hidden);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const std::string block = "blk." + std::to_string(layer) + ".";
      ones(block + "attn_norm.weight", shape.hidden);
      ones(block + "ffn_norm.weight", shape.hidden);
      matrix(block + "attn_q.weight", queries, shape.hidden);
      matrix(block + "attn_k.weight", kv, shape.hidden);
      matrix(block + "attn_v.weight", kv, shape.hidden);
      matrix(block + "attn_output.weight", shape.hidden, queries);
      matrix(block + "ffn_gate.weight", shape.feed_forward, shape.hidden);
      matrix(block + "ffn_up.weight", shape.feed_forward, shape.hidden);
      matrix(block + "ffn_down.weight", shape.hidden, shape.feed_forward);
      if (llama) continue;
      ones(block + "attn_q.bias", queries);
      ones(block + "attn_k.bias", kv);
      ones(block + "attn_v.bias", kv);
    }
    write();
  }

  [[nodiscard]] const std::vector<std::byte>& bytes() const noexcept { return bytes_; }

 private:
  static constexpr std::size_t alignment = 32;
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> shape;
    GgufType type;
  };

  template <class T>
  void set(const std::string& key, const T& value) {
    entries_.put(std::string_view(key));
    entries_.put(testing::gguf_kind<T>());
    if constexpr (std::is_same_v<T, std::string>)
      entries_.put(std::string_view(value));
    else
      entries_.put(value);
    ++entry_count_;
  }
  void matrix(std::string name, std::size_t rows, std::size_t columns) {
    tensors_.push_back({std::move(name), {columns, rows}, GgufType::bf16});
    most_drawn_ = std::max(most_drawn_, rows * columns);
  }
  void ones(std::string name, std::size_t count) {
    tensors_.push_back({std::move(name), {count}, GgufType::f32});
    most_ones_ = std::max(most_ones_, count);
  }

  void write() {
    const std::size_t drawn_bytes = (most_drawn_ * 2 + alignment - 1) / alignment * alignment;
    testing::ByteWriter head;
    head.put_raw("GGUF");
    head.put(std::uint32_t{3});
    head.put(static_cast<std::uint64_t>(tensors_.size()));
    head.put(entry_count_);
    head.put_raw(entries_.bytes());
    for (const Tensor& tensor : tensors_) {
      head.put(std::string_view(tensor.name));
      head.put(static_cast<std::uint32_t>(tensor.shape.size()));
      for (const std::uint64_t extent : tensor.shape) head.put(extent);
      head.put(static_cast<std::uint32_t>(tensor.type));
      head.put(static_cast<std::uint64_t>(tensor.type == GgufType::bf16 ? 0 : drawn_bytes));
    }
    head.align(alignment);
    bytes_.resize(head.bytes().size() + drawn_bytes + most_ones_ * sizeof(float));
    std::byte* to = std::ranges::copy(head.bytes(), bytes_.data()).out;
    // Four numbers at once: sign and mantissa by chance, the exponent such that they lie between 2^-7 and 2^-6, about
    // the size that keeps activations as they are.
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i < drawn_bytes; i += 8) {
      const std::uint64_t four = (random() & 0x807f807f807f807fU) | 0x3c003c003c003c00U;
      std::memcpy(to + i, &four, 8);
    }
    const std::vector<float> all_ones(most_ones_, 1.0F);
    std::memcpy(to + drawn_bytes, all_ones.data(), most_ones_ * sizeof(float));
  }

  testing::ByteWriter entries_;
  std::uint64_t entry_count_ = 0;
  std::vector<Tensor> tensors_;
  std::size_t most_drawn_ = 0, most_ones_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace krul::bench
