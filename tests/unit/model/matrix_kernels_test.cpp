#include "krul/model/matrix_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "krul/core/aligned_buffer.hpp"
#include "krul/core/half.hpp"
#include "krul/core/processor.hpp"
#include "krul/model/any_kernels.hpp"
#include "krul/reference/int8_product.hpp"
#include "support/levels.hpp"

using namespace krul;

namespace {

/// A packed random matrix and random rows; in f32 and bf16 both as the kernels round them.
template <MatrixKernels K>
struct Product {
  K kernels;
  std::size_t columns, depth, rows;
  WeightForm form;
  std::vector<float> weights, x;
  std::vector<FourBitBlock> blocks;  // of weights of four bits
  std::vector<std::byte> input;
  AlignedBuffer memory;
  typename K::Packed packed;
  typename K::Scratch scratch;
  std::vector<std::vector<double>> transformed_x, transformed_weights;

  Product(K with, const MatrixShape& shape, std::size_t r)
      : kernels(std::move(with)),
        columns(shape.columns),
        depth(shape.depth),
        rows(r),
        form(shape.form),
        weights(columns * depth),
        x(r * depth),
        memory(kernels.packed_bytes(shape)),
        packed(kernels.make_packed(shape, memory.as<std::byte>())),
        scratch(kernels.make_scratch()) {
    std::mt19937 random(static_cast<unsigned>(columns * depth + r));
    std::normal_distribution<float> normal;
    for (auto* values : {&weights, &x})
      for (auto& value : *values) value = normal(random);
    if (form == WeightForm::four_bits) draw_blocks(random);
    kernels.pack(packed, 0, {weights, blocks}, scratch);
    const std::size_t row_bytes = kernels.row_bytes(depth);
    input.resize(rows * row_bytes);
    for (std::size_t row = 0; row < rows; ++row)
      kernels.prepare(packed, std::span(x).subspan(row * depth, depth), 0,
                      std::span(input).subspan(row * row_bytes, row_bytes));
    if (kernels.precision() == Precision::bf16)
      for (auto* values : {&weights, &x})
        for (auto& value : *values) value = float_from_bf16(bf16_from_float(value));
  }

  /// Weights of four bits instead; as in files, blocks of zeros and of negative scales among them.
  void draw_blocks(std::mt19937& random) {
    std::normal_distribution<float> normal;
    blocks.resize(weights.size() / four_bit_values);
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      if (b % 7 != 0) blocks[b] = {normal(random) / 8, normal(random)};
      for (std::size_t k = 0; k < four_bit_values; ++k)
        weights[b * four_bit_values + k] = static_cast<float>(random() % 16) * blocks[b].scale + blocks[b].minimum;
    }
  }

  /// Whether the matrix was packed in some way of its own.
  [[nodiscard]] bool keeps_four_bits() const {
    return form == WeightForm::four_bits && kernels.packed_bytes({columns, depth, form}) < columns * depth;
  }

  /// As `allowed`, where codes of four bits are kept.
  [[nodiscard]] double allowed_for_four_bits(std::size_t row, std::size_t column) const {
    const std::vector<double> activations(&x[row * depth], &x[row * depth] + depth);
    const std::vector<double> exact(&weights[column * depth], &weights[column * depth] + depth);
    // Codes and minima are multiplied apart, each block with five roundings, and added with one each.
    double size = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      const FourBitBlock& block = blocks[(column * depth + k) / four_bit_values];
      size += (15 * std::abs(block.scale) + std::abs(block.minimum)) * (std::abs(activations[k]));
    }
    return reference::rounded_activations_bound(activations, exact, four_bit_values) +
           static_cast<double>(2 * (depth / four_bit_values) + 6) * 0x1p-24 * 2 * size;
  }

  /// Rows of a matrix after the transform of int8.
  [[nodiscard]] std::vector<std::vector<double>> transformed(std::span<const float> matrix) const {
    std::vector<std::vector<double>> found;
    for (std::size_t at = 0; at < matrix.size(); at += depth)
      found.push_back(reference::hadamard(std::vector<double>(&matrix[at], &matrix[at] + depth), 64));
    return found;
  }

  /// How far y[row, column] may lie from the sum in double, `exact`.
  [[nodiscard]] double allowed(std::size_t row, std::size_t column, double& exact) {
    double size = 0;
    exact = 0;
    for (std::size_t k = 0; k < depth; ++k) {
      const double term = static_cast<double>(x[row * depth + k]) * weights[column * depth + k];
      exact += term;
      size += std::abs(term);
    }
    if (keeps_four_bits()) return allowed_for_four_bits(row, column);
    // A sum of n products in f32 is off by at most n u times the sum of their sizes.
    if (kernels.precision() != Precision::int8) return static_cast<double>(depth) * 0x1p-24 * size;
    // Sums of 64 products are whole numbers. What is left for f32: the transform, with a sum and a product a step, the
    // scales, and one product for each group, all of values that the transform makes no larger than sqrt(64) times.
    if (transformed_x.empty()) transformed_x = transformed(x), transformed_weights = transformed(weights);
    return reference::int8_product_bound(transformed_x[row], transformed_weights[column], 64) +
           static_cast<double>(2 * 6 + 6 + depth / 64) * 0x1p-24 * 8 * std::max(size, 1.0);
  }

  /// [rows, whole panels], computed in runs of `step` panels and pieces of `height` rows.
  std::vector<float> multiply(std::size_t step, std::size_t height) {
    const std::size_t panels = panels_of(columns), width = panels * panel_columns;
    std::vector<float> all(rows * width), y(height * block_columns);
    const std::size_t row_bytes = kernels.row_bytes(depth);
    for (std::size_t begin = 0; begin < panels; begin += step)
      for (std::size_t row = 0; row < rows; row += height) {
        const PanelRange range{begin, std::min(begin + step, panels)};
        const std::size_t count = std::min(height, rows - row), stride = range.size() * panel_columns;
        kernels.multiply(packed, range, std::span(input).subspan(row * row_bytes, count * row_bytes), y, scratch);
        for (std::size_t r = 0; r < count; ++r)
          std::copy_n(&y[r * stride], stride, &all[(row + r) * width + begin * panel_columns]);
      }
    return all;
  }
};

constexpr Precision precisions[] = {Precision::f32, Precision::bf16, Precision::int8};

template <class Check>
void with_krul_kernels(Check&& check) {
  for (const auto precision : precisions)
    for (Processor processor : testing::processors_by_level())
      for (const char* const vendor : {"AuthenticAMD", "GenuineIntel"}) {  // who differ in what bf16 is made of
        processor.vendor = vendor;
        check(KrulKernels(precision, processor));
      }
}

template <class Check>
void with_all_kernels(Check&& check) {
  check(EigenKernels{});
  with_krul_kernels(check);
  for (const auto precision : {Precision::f32, Precision::bf16})
    if (auto kernels = OnednnKernels::make(precision)) check(*kernels);
  check(*AnyKernels::choose(KernelChoice::eigen, Precision::f32));
  check(*AnyKernels::choose(KernelChoice::automatic, std::nullopt));
}

std::size_t threads_of_this_process() {
  std::size_t threads = 0;
  if (std::FILE* status = std::fopen("/proc/self/status", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, status) != nullptr) std::sscanf(line, "Threads: %zu", &threads);
    std::fclose(status);
  }
  return threads;
}

/// A thread that was joined may be counted for a moment longer.
bool is_back_to(std::size_t threads) {
  for (int tries = 0; tries < 10000 && threads_of_this_process() != threads; ++tries) std::this_thread::yield();
  return threads_of_this_process() == threads;
}

}  // namespace

TEST_CASE("products agree with sums in double for any shape") {
  with_all_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    struct Case {
      MatrixShape shape;
      std::size_t rows;
    };
    constexpr auto four_bits = WeightForm::four_bits;
    for (const auto& [shape, rows] : {Case{{64, 64}, 1},
                                      {{320, 96}, 3},
                                      {{100, 64}, 150},
                                      {{1, 33}, 2},
                                      {{257, 576}, 37},
                                      {{64, 32, four_bits}, 1},
                                      {{100, 96, four_bits}, 14},
                                      {{257, 576, four_bits}, 37}}) {
      const std::size_t columns = shape.columns, row_count = rows;
      CAPTURE(columns);
      CAPTURE(row_count);
      Product product(kernels, shape, rows);
      CHECK(product.packed.columns() == columns);
      CHECK(product.packed.depth() == shape.depth);
      CHECK(product.memory.size() >= columns * shape.depth / (product.keeps_four_bits() ? 2 : 1));
      const auto y = product.multiply(4, 128);
      const std::size_t width = panels_of(columns) * panel_columns;
      double worst = 0;
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < width; ++c) {
          double exact = 0, allowed = 0;  // what fills up is 0
          if (c < columns) allowed = product.allowed(r, c, exact);
          worst = std::fmax(worst, std::abs(y[r * width + c] - exact) - allowed);
        }
      CHECK(worst <= 0);
    }
  });
}

TEST_CASE("a matrix can be packed in pieces") {
  with_all_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    for (const auto form : {WeightForm::any, WeightForm::four_bits}) {
      const MatrixShape shape{300, 64, form};
      Product product(kernels, shape, 5);
      const auto before = product.multiply(2, 5);
      const AlignedBuffer memory(kernels.packed_bytes(shape));
      auto again = kernels.make_packed(shape, memory.template as<std::byte>());
      const std::span<const float> weights = product.weights;
      const std::span<const FourBitBlock> blocks = product.blocks;
      for (const std::size_t panel : {4, 0, 2}) {
        const std::size_t first = panel * panel_columns, count = std::min<std::size_t>(128, 300 - first);
        WeightRows rows{weights.subspan(first * 64, count * 64)};
        if (form == WeightForm::four_bits) rows.blocks = blocks.subspan(first * 2, count * 2);
        kernels.pack(again, panel, rows, product.scratch);
      }
      product.packed = std::move(again);
      CHECK(product.multiply(2, 5) == before);
    }
  });
}

TEST_CASE("krul's kernels keep a row's bits apart from the rows and columns beside it") {
  with_krul_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    for (const auto form : {WeightForm::any, WeightForm::four_bits}) {
      Product product(kernels, {200, 192, form}, 29);
      const auto whole = product.multiply(4, 29);
      for (const std::size_t step : {1, 3})
        for (const std::size_t height : {1, 2, 5, 7, 11, 12, 13}) CHECK(product.multiply(step, height) == whole);
    }
  });
}

TEST_CASE("rows are prepared with the same bits at all levels that take them alike, whole or in parts") {
  for (const auto precision : precisions) {
    CAPTURE(name(precision));
    const auto processors = testing::processors_by_level();
    const auto expected = Product(KrulKernels(precision, processors.front()), {64, 200}, 5).input;
    for (const Processor& processor : processors) {
      const KrulKernels kernels(precision, processor);
      CAPTURE(kernels.name());
      Product product(kernels, {64, 200}, 5);
      if (product.input.size() == expected.size()) CHECK(product.input == expected);
      std::vector<std::byte> parts(product.input.size());
      const std::size_t row = kernels.row_bytes(200);
      for (std::size_t r = 0; r < 5; ++r)
        for (const std::size_t first : {64, 0, 192, 128}) {
          const auto values = std::span(product.x).subspan(r * 200 + first, std::min<std::size_t>(64, 200 - first));
          kernels.prepare(product.packed, values, first, std::span(parts).subspan(r * row, row));
        }
      CHECK(parts == product.input);
    }
  }
}

TEST_CASE("int8 spreads a value that is much larger than those beside it") {
  // Without the transform, one value of 1000 makes a step of 8 and rounds the others, all near 1, to 0. With it they
  // come back within half a step of a value of 1000 / sqrt(64).
  const KrulKernels kernels(Precision::int8);
  std::vector<float> weights(64 * 64), x(64, 1.0F), y(64);
  for (std::size_t i = 0; i < 64; ++i) weights[i * 64 + i] = 1;
  x[17] = 1000;
  const AlignedBuffer memory(kernels.packed_bytes({64, 64}));
  auto packed = kernels.make_packed({64, 64}, memory.as<std::byte>());
  auto scratch = kernels.make_scratch();
  kernels.pack(packed, 0, {weights}, scratch);
  std::vector<std::byte> row(kernels.row_bytes(64));
  kernels.prepare(packed, x, 0, row);
  kernels.multiply(packed, {0, 1}, row, y, scratch);
  double squares = 0;
  for (std::size_t i = 0; i < 64; ++i) squares += std::pow(y[i] - x[i], 2);
  const double step = (1000 / 8.0 + 8) / 127;
  CHECK(std::sqrt(squares / 64) <= step / 2);
}

TEST_CASE("rows of zeros, of tiny and of huge values stay finite in int8") {
  with_krul_kernels([](auto kernels) {
    if (kernels.precision() != Precision::int8) return;
    CAPTURE(kernels.name());
    const std::vector<float> weights(64 * 64, 0.5F);
    const AlignedBuffer memory(kernels.packed_bytes({64, 64}));
    auto packed = kernels.make_packed({64, 64}, memory.template as<std::byte>());
    auto scratch = kernels.make_scratch();
    kernels.pack(packed, 0, {weights}, scratch);
    for (const float value : {0.0F, 1e-38F, 1e-30F, 1e30F}) {
      std::vector<float> x(64, value), y(64);
      std::vector<std::byte> row(kernels.row_bytes(64));
      kernels.prepare(packed, x, 0, row);
      kernels.multiply(packed, {0, 1}, row, y, scratch);
      for (const float sum : y) CHECK(std::abs(sum - 32 * value) <= 32 * (value * 0x1p-6F + 1e-30F));
    }
  });
}

TEST_CASE("oneDNN keeps a row's bits apart from the rows and columns beside it") {
  if (!includes(instruction_level(), InstructionLevel::avx512)) return;  // others make no such promise
  for (const auto precision : {Precision::f32, Precision::bf16}) {
    const auto kernels = OnednnKernels::make(precision);
    if (!kernels) continue;
    for (const std::size_t depth : {64, 96, 576, 1536}) {
      CAPTURE(depth);
      Product product(*kernels, {448, depth}, 135);
      const auto whole = product.multiply(4, 135);
      for (const std::size_t step : {1, 3})
        for (const std::size_t height : {1, 2, 7, 60}) CHECK(product.multiply(step, height) == whole);
    }
  }
}

TEST_CASE("kernels start no threads, and several threads can share a matrix") {
  const std::size_t before = threads_of_this_process();
  with_all_kernels([&](auto kernels) {
    CAPTURE(kernels.name());
    Product product(kernels, {512, 256}, 200);
    const auto expected = product.multiply(4, 200);
    CHECK(is_back_to(before));
    std::vector<float> results[2];
    {
      std::vector<std::jthread> team;
      for (auto& result : results)
        team.emplace_back([&] {
          auto mine = product.kernels.make_scratch();
          std::vector<float> y(200 * block_columns);
          for (int round = 0; round < 20; ++round)
            product.kernels.multiply(product.packed, {4, 8}, product.input, y, mine);
          result = y;
        });
    }
    CHECK(results[0] == results[1]);
    for (std::size_t row = 0; row < 200; ++row)
      CHECK(std::equal(&results[0][row * 256], &results[0][row * 256] + 256, &expected[row * 512 + 256]));
  });
  CHECK(is_back_to(before));
}

TEST_CASE("kernels refuse what does not fit") {
  with_all_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    Product product(kernels, {130, 32}, 2);
    auto& packed = product.packed;
    auto& scratch = product.scratch;
    const std::span<const float> weights = product.weights;
    std::vector<float> y(2 * block_columns);
    CHECK_THROWS_AS((void)kernels.make_packed({130, 32}, product.memory.template as<std::byte>().first(64)),
                    PreconditionError);
    CHECK_THROWS_AS(kernels.pack(packed, 0, {weights.first(33)}, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.pack(packed, 0, {weights.first(32)}, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.pack(packed, 1, {weights}, scratch), PreconditionError);
    std::vector<std::byte> row(kernels.row_bytes(32));
    CHECK_THROWS_AS(kernels.prepare(packed, weights.first(33 + 64), 0, row), PreconditionError);
    CHECK_THROWS_AS(kernels.prepare(packed, weights.first(32), 64, row), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {0, 4}, product.input, y, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {1, 1}, product.input, y, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {0, 1}, std::span(product.input).first(6), y, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {0, 3}, product.input, std::span(y).first(100), scratch),
                    PreconditionError);
  });
}

TEST_CASE(
    "a matrix of four bits takes blocks for all of its weights, and krul's int8 keeps their codes at level avx2 "
    "alone") {
  with_krul_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    Product product(kernels, {64, 64, WeightForm::four_bits}, 1);
    const bool words = kernels.precision() == Precision::int8 && kernels.level() == InstructionLevel::avx2;
    CHECK(product.keeps_four_bits() == words);
    if (!words) return;
    const std::span<const FourBitBlock> blocks = product.blocks;
    CHECK_THROWS_AS(kernels.pack(product.packed, 0, {product.weights}, product.scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.pack(product.packed, 0, {product.weights, blocks.first(127)}, product.scratch),
                    PreconditionError);
    const KrulKernels others(Precision::int8,
                             testing::processors_by_level().front());  // portable, which keeps no codes
    std::vector<float> none(block_columns);
    auto room = others.make_scratch();
    CHECK_THROWS_AS(others.prepare(product.packed, product.x, 0, product.input), PreconditionError);
    CHECK_THROWS_AS(
        others.multiply(product.packed, {0, 1}, std::span(product.input).first(others.row_bytes(64)), none, room),
        PreconditionError);
    // What one code of each block is worth is exact: activations of one value are 127 steps.
    std::vector<float> x(64), y(64);
    std::vector<std::byte> row(kernels.row_bytes(64));
    for (const std::size_t k : {0, 17, 31, 32, 63}) {
      std::fill(x.begin(), x.end(), 0.0F);
      x[k] = 127;
      kernels.prepare(product.packed, x, 0, row);
      kernels.multiply(product.packed, {0, 1}, row, y, product.scratch);
      for (std::size_t c = 0; c < 64; ++c) {
        const FourBitBlock& block = blocks[c * 2 + k / 32];
        const float size = 15 * std::abs(block.scale) + std::abs(block.minimum);
        CHECK(std::abs(y[c] - 127 * product.weights[c * 64 + k]) <= 127 * size * 0x1p-22F);
      }
    }
  });
}

TEST_CASE("a choice that is not there says what is") {
  const auto eigen = AnyKernels::choose(KernelChoice::eigen, Precision::bf16);
  REQUIRE(!eigen);
  CHECK(eigen.error().code == ErrorCode::unsupported);
  CHECK(eigen.error().message.find("f32") != std::string::npos);
  CHECK(AnyKernels::choose(KernelChoice::eigen, std::nullopt)->name() == "eigen f32");
  for (const auto choice : {KernelChoice::automatic, KernelChoice::krul})
    for (const auto precision : precisions) CHECK(AnyKernels::choose(choice, precision)->precision() == precision);
  const auto automatic = AnyKernels::choose(KernelChoice::automatic, std::nullopt);
  REQUIRE(automatic);
  CHECK(automatic->precision() == KrulKernels::fastest());
  const bool onednn = OnednnKernels::make(Precision::f32).has_value();
  const bool bf16 = onednn && includes(instruction_level(), InstructionLevel::avx512_bf16);
  CHECK(AnyKernels::choose(KernelChoice::onednn, Precision::f32).has_value() == onednn);
  for (const auto precision : {Precision::bf16, Precision::int8}) {
    const auto kernels = AnyKernels::choose(KernelChoice::onednn, precision);
    CHECK(kernels.has_value() == (bf16 && precision == Precision::bf16));
    if (!kernels) CHECK(kernels.error().code == ErrorCode::unsupported);
  }
}

TEST_CASE("bf16 products are those of f32 where the processor is faster at these") {
  Processor processor = Processor::detect();
  if (processor.level() != InstructionLevel::avx512_bf16) return;
  processor.vendor = "GenuineIntel";
  CHECK(KrulKernels(Precision::bf16, processor).name() == "krul bf16 avx512");
  processor.vendor = "AuthenticAMD";
  CHECK(KrulKernels(Precision::bf16, processor).name() == "krul bf16 avx512_bf16");
}

TEST_CASE("kernels take the highest level that a processor has code for, and int8 is the fastest from avx2 on") {
  for (const Processor& processor : testing::processors_by_level()) {
    CAPTURE(name(processor.level()));
    for (const auto precision : precisions)
      CHECK(includes(processor.level(), KrulKernels(precision, processor).level()));
    const bool narrow = processor.level() == InstructionLevel::portable || processor.level() == InstructionLevel::neon;
    CHECK(KrulKernels::fastest(processor) == (narrow ? Precision::f32 : Precision::int8));
  }
}
