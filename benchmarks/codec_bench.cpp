// Coding and decoding of KV rows: memcpy of the cache's bytes first, then the twin, then the codecs. Bytes a second are
// those of the rows in the cache (f16), so that lines compare with each other and with a link.
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "krul/compress/any_codec.hpp"
#include "krul/compress/coding_set.hpp"
#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int4_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/core/half.hpp"
#include "krul/reference/row_codec.hpp"

namespace {

using namespace krul;

constexpr std::size_t rows = 256;  // with three heads of 64 about 100 kB: stays in the second-level cache

Geometry geometry() {
  Geometry shape;
  shape.kv_heads = 3;
  shape.head_dim = 64;
  shape.cache_type = ElementType::f16;
  return shape;
}

std::vector<std::byte> sample(unsigned seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(rows * geometry().kv_values());
  for (float& value : values) value = normal(random);
  std::vector<std::byte> bytes(rows * geometry().kv_row_bytes());
  from_float(ElementType::f16, values, bytes);
  return bytes;
}

void set_bytes(benchmark::State& state) {
  state.SetBytesProcessed(static_cast<std::int64_t>(rows * geometry().kv_row_bytes()) * state.iterations());
}

void raw_copy(benchmark::State& state) {
  const auto from = sample();
  std::vector<std::byte> to(from.size());
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state);
}

void reference_decode_int8(benchmark::State& state) {
  const std::size_t head_dim = geometry().head_dim;
  const auto bytes = sample();
  std::vector<float> floats(rows * geometry().kv_values());
  to_float(ElementType::f16, bytes, floats);
  const std::vector<double> values(floats.begin(), floats.end());
  std::vector<reference::Int8Head> heads;
  for (std::size_t i = 0; i < values.size(); i += head_dim)
    heads.push_back(reference::int8_encode(ElementType::f16, std::span(values).subspan(i, head_dim)));
  for (auto _ : state)
    for (const auto& head : heads) benchmark::DoNotOptimize(reference::int8_decode(ElementType::f16, head));
  set_bytes(state);
}

void encode(benchmark::State& state, const AnyRowCodec& codec) {
  const auto from = sample();
  std::vector<std::byte> to(codec.bytes(geometry(), rows));
  for (auto _ : state) {
    codec.encode(geometry(), from, to);
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state);
}

void decode(benchmark::State& state, const AnyRowCodec& codec) {
  auto to = sample();
  std::vector<std::byte> from(codec.bytes(geometry(), rows));
  codec.encode(geometry(), to, from);
  for (auto _ : state) {
    if (!codec.decode(geometry(), from, to)) state.SkipWithError("decode failed");
    benchmark::DoNotOptimize(to.data());
    benchmark::ClobberMemory();
  }
  set_bytes(state);
}

/// K and V of two layers, as one chunk if they share and as two if not.
struct TwoLayers {
  std::vector<std::byte> rows[4] = {sample(1), sample(2), sample(3), sample(4)};
  std::vector<KvRows> read() const { return {{rows[0], rows[1]}, {rows[2], rows[3]}}; }
  std::vector<MutableKvRows> write() { return {{rows[0], rows[1]}, {rows[2], rows[3]}}; }
};

void encode_pair(benchmark::State& state, const AnyChunkCoder& coding) {
  const TwoLayers layers;
  const auto group = layers.read();
  for (auto _ : state)
    for (std::size_t layer = 0; layer < 2; layer += coding.layers())
      benchmark::DoNotOptimize(coding.encode(geometry(), std::span(group).subspan(layer, coding.layers())));
  state.SetBytesProcessed(static_cast<std::int64_t>(4 * rows * geometry().kv_row_bytes()) * state.iterations());
}

void decode_pair(benchmark::State& state, const AnyChunkCoder& coding) {
  TwoLayers layers;
  const auto from = layers.read();
  const auto to = layers.write();
  std::vector<std::vector<std::byte>> chunks;
  for (std::size_t layer = 0; layer < 2; layer += coding.layers())
    chunks.push_back(coding.encode(geometry(), std::span(from).subspan(layer, coding.layers())));
  for (auto _ : state) {
    for (std::size_t i = 0; i < chunks.size(); ++i)
      if (!coding.decode(geometry(), chunks[i], std::span(to).subspan(i * coding.layers(), coding.layers())))
        state.SkipWithError("decode failed");
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(4 * rows * geometry().kv_row_bytes()) * state.iterations());
}

BENCHMARK(raw_copy);
BENCHMARK(reference_decode_int8);
BENCHMARK_CAPTURE(decode, exact, AnyRowCodec(ExactCodec{}));
BENCHMARK_CAPTURE(decode, f16, AnyRowCodec(F16Codec{}));
BENCHMARK_CAPTURE(decode, bf16, AnyRowCodec(Bf16Codec{}));
BENCHMARK_CAPTURE(decode, int8, AnyRowCodec(Int8Codec{}));
BENCHMARK_CAPTURE(decode, int4, AnyRowCodec(Int4Codec{}));
BENCHMARK_CAPTURE(encode, bf16, AnyRowCodec(Bf16Codec{}));
BENCHMARK_CAPTURE(encode, int8, AnyRowCodec(Int8Codec{}));
BENCHMARK_CAPTURE(encode, int4, AnyRowCodec(Int4Codec{}));
BENCHMARK_CAPTURE(decode_pair, separate_f16, LayerPairCompressor(Separate{}, F16Codec{}));
BENCHMARK_CAPTURE(decode_pair, merge_f16, LayerPairCompressor(SlerpMerge{}, F16Codec{}));
BENCHMARK_CAPTURE(decode_pair, reuse_f16, LayerPairCompressor(DirectReuse{}, F16Codec{}));
BENCHMARK_CAPTURE(decode_pair, separate_int8, LayerPairCompressor(Separate{}, Int8Codec{}));
BENCHMARK_CAPTURE(decode_pair, merge_int8, LayerPairCompressor(SlerpMerge{}, Int8Codec{}));
BENCHMARK_CAPTURE(encode_pair, separate_int8, LayerPairCompressor(Separate{}, Int8Codec{}));
BENCHMARK_CAPTURE(encode_pair, merge_f16, LayerPairCompressor(SlerpMerge{}, F16Codec{}));
BENCHMARK_CAPTURE(encode_pair, merge_int8, LayerPairCompressor(SlerpMerge{}, Int8Codec{}));

}  // namespace

BENCHMARK_MAIN();
