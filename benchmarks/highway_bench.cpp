// Three of krul's loops beside the same ones written with Google Highway, compiled for the same instructions (avx2).
// docs/decisions/0020 says what came of it. Built where Highway is found (Debian: libhwy-dev).
#define HWY_COMPILE_ONLY_STATIC
#define HWY_DISABLE_PCLMUL_AES
#include <benchmark/benchmark.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <cstring>
#include <random>
#include <vector>

#include "krul/compress/int8_codec.hpp"
#include "krul/core/aligned_buffer.hpp"
#include "krul/core/half.hpp"
#include "src/compress/int8_kernels.hpp"
#include "src/model/layer_kernels.hpp"
#include "src/model/micro_kernels.hpp"

static_assert(HWY_STATIC_TARGET == HWY_AVX2, "compiled for other instructions than what it is compared with");

namespace {

using namespace krul;
namespace hn = hwy::HWY_NAMESPACE;

std::vector<float> normal_values(std::size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// ---- silu(gate) * up ----

constexpr std::size_t width = 1536;

void swiglu(const float* gate, const float* up, std::size_t n, float* out) {
  const hn::ScalableTag<float> d;
  const auto one = hn::Set(d, 1.0F);
  for (std::size_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto g = hn::LoadU(d, gate + i);
    const auto silu = hn::Div(g, hn::Add(one, hn::Exp(d, hn::Neg(g))));
    hn::StoreU(hn::Mul(silu, hn::LoadU(d, up + i)), d, out + i);
  }
}

void swiglu(benchmark::State& state, void (*loop)(const float*, const float*, std::size_t, float*)) {
  const auto gate = normal_values(width), up = normal_values(width);
  std::vector<float> out(width);
  for (auto _ : state) {
    loop(gate.data(), up.data(), width, out.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(width) * state.iterations());
}
BENCHMARK_CAPTURE(swiglu, krul, detail::layer_kernels<InstructionLevel::avx2>()->swiglu);
BENCHMARK_CAPTURE(swiglu, highway, swiglu);

// ---- int8 rows to f16 ----

constexpr std::size_t head_dim = 64, heads = 768;

void decode_heads(const std::byte* codes, std::byte* to) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<std::int8_t, decltype(d)> bytes;
  const hn::Rebind<std::int32_t, decltype(d)> whole;
  const hn::Rebind<hwy::float16_t, decltype(d)> halves;
  for (std::size_t head = 0; head < heads; ++head, codes += 2 + head_dim, to += 2 * head_dim) {
    std::uint16_t stored;
    std::memcpy(&stored, codes, 2);
    const auto top = hn::Set(d, float_from_f16(stored)), unit = hn::Set(d, detail::int8_unit);
    for (std::size_t i = 0; i < head_dim; i += hn::Lanes(d)) {
      const auto code = hn::LoadU(bytes, reinterpret_cast<const std::int8_t*>(codes + 2 + i));
      const auto value = hn::Mul(hn::Mul(hn::ConvertTo(d, hn::PromoteTo(whole, code)), unit), top);
      hn::StoreU(hn::DemoteTo(halves, value), halves, reinterpret_cast<hwy::float16_t*>(to) + i);
    }
  }
}

template <class Decode>
void decode_int8(benchmark::State& state, Decode decode) {
  Geometry geometry;
  geometry.kv_heads = 3;
  geometry.head_dim = head_dim;
  geometry.cache_type = ElementType::f16;
  std::vector<std::byte> rows(heads * head_dim * 2);
  from_float(ElementType::f16, normal_values(heads * head_dim), rows);
  std::vector<std::byte> coded(Int8Codec{}.bytes(geometry, heads / 3));
  Int8Codec{}.encode(geometry, rows, coded);
  for (auto _ : state) {
    decode(geometry, coded, rows);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(rows.size()) * state.iterations());
}
BENCHMARK_CAPTURE(decode_int8, krul, [](const Geometry& geometry, const auto& coded, auto& rows) {
  if (!Int8Codec{}.decode(geometry, coded, rows)) std::abort();
});
BENCHMARK_CAPTURE(decode_int8, highway,
                  [](const Geometry&, const auto& coded, auto& rows) { decode_heads(coded.data(), rows.data()); });

// ---- three rows times a strip of 32 columns, in f32 ----

void multiply(const detail::StripProduct& product) {
  const hn::FixedTag<float, 8> d;
  constexpr std::size_t rows = 3, vectors = 4;
  using V = hn::Vec<decltype(d)>;
  V sums[rows][vectors];
  for (auto& row : sums)
    for (auto& sum : row) sum = hn::Zero(d);
  const auto* weights = reinterpret_cast<const float*>(product.strip);
  const auto row_of = [&](std::size_t row) {
    return reinterpret_cast<const float*>(product.rows + row * product.row_bytes);
  };
  const float* const x[rows] = {row_of(0), row_of(1), row_of(2)};
  for (std::size_t k = 0; k < product.steps; ++k, weights += 32)
    for (std::size_t v = 0; v < vectors; ++v) {
      const V w = hn::Load(d, weights + 8 * v);
      for (std::size_t row = 0; row < rows; ++row) sums[row][v] = hn::MulAdd(w, hn::Set(d, x[row][k]), sums[row][v]);
    }
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t v = 0; v < vectors; ++v) hn::StoreU(sums[row][v], d, product.y + row * product.stride + 8 * v);
}

void product(benchmark::State& state, void (*loop)(const detail::StripProduct&)) {
  constexpr std::size_t depth = 576;
  const auto rows = normal_values(3 * depth);
  const AlignedBuffer strip(depth * 32 * sizeof(float));
  const auto weights = normal_values(depth * 32);
  std::memcpy(strip.data(), weights.data(), weights.size() * sizeof(float));
  std::vector<float> y(3 * 32);
  const detail::StripProduct work{.rows = reinterpret_cast<const std::byte*>(rows.data()),
                                  .row_bytes = depth * sizeof(float),
                                  .count = 3,
                                  .strip = strip.data(),
                                  .steps = depth,
                                  .y = y.data(),
                                  .stride = 32,
                                  .next = strip.data(),
                                  .next_step = 0};
  for (auto _ : state) {
    loop(work);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(2 * 3 * 32 * depth) * state.iterations());
}
BENCHMARK_CAPTURE(product, krul, detail::micro_kernels<Precision::f32, InstructionLevel::avx2>()->multiply);
BENCHMARK_CAPTURE(product, highway, multiply);

}  // namespace

BENCHMARK_MAIN();
