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

#include "krul/core/half.hpp"
#include "krul/model/aligned_buffer.hpp"
#include "krul/model/any_kernels.hpp"
#include "krul/model/processor.hpp"

using namespace krul;

namespace {

/// A packed random matrix and random rows, both as the kernels round them.
template <MatrixKernels K>
struct Product {
  K kernels;
  std::size_t columns, depth, rows;
  std::vector<float> weights, x;
  std::vector<std::byte> input;
  AlignedBuffer memory;
  typename K::Packed packed;
  typename K::Scratch scratch;

  Product(K with, std::size_t n, std::size_t k, std::size_t r)
      : kernels(std::move(with)),
        columns(n),
        depth(k),
        rows(r),
        weights(n * k),
        x(r * k),
        memory(kernels.packed_bytes(n, k)),
        packed(kernels.make_packed(n, k, memory.as<std::byte>())),
        scratch(kernels.make_scratch()) {
    std::mt19937 random(static_cast<unsigned>(n * k + r));
    std::normal_distribution<float> normal;
    for (auto* values : {&weights, &x})
      for (auto& value : *values) value = normal(random);
    kernels.pack(packed, 0, weights, scratch);
    input.resize(x.size() * size_of(kernels.input_type()));
    from_float(kernels.input_type(), x, input);
    to_float(kernels.input_type(), input, x);
    std::vector<std::byte> rounded(weights.size() * size_of(kernels.input_type()));
    from_float(kernels.input_type(), weights, rounded);
    to_float(kernels.input_type(), rounded, weights);
  }

  /// [rows, whole panels], computed in runs of `step` panels and pieces of `height` rows.
  std::vector<float> multiply(std::size_t step, std::size_t height) {
    const std::size_t panels = panels_of(columns), width = panels * panel_columns;
    std::vector<float> all(rows * width), y(height * block_columns);
    const std::size_t row_bytes = depth * size_of(kernels.input_type());
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

template <class Check>
void with_all_kernels(Check&& check) {
  check(EigenKernels{});
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

}  // namespace

TEST_CASE("products agree with sums in double for any shape") {
  with_all_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    for (const auto& shape :
         {std::array<std::size_t, 3>{64, 64, 1}, {320, 96, 3}, {100, 64, 150}, {1, 32, 2}, {257, 576, 37}}) {
      const std::size_t columns = shape[0], depth = shape[1], rows = shape[2];
      CAPTURE(columns);
      CAPTURE(rows);
      Product product(kernels, columns, depth, rows);
      CHECK(product.packed.columns() == columns);
      CHECK(product.packed.depth() == depth);
      CHECK(product.memory.size() >= columns * depth * size_of(kernels.input_type()));
      const auto y = product.multiply(4, 128);
      const std::size_t width = panels_of(columns) * panel_columns;
      double worst = 0;
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t c = 0; c < width; ++c) {
          double exact = 0, size = 0;
          for (std::size_t k = 0; c < columns && k < depth; ++k) {
            const double term = static_cast<double>(product.x[r * depth + k]) * product.weights[c * depth + k];
            exact += term;
            size += std::abs(term);
          }
          // A sum of n products in f32 is off by at most n u times the sum of their sizes. What fills up is 0.
          const double allowed = static_cast<double>(depth) * 0x1p-24 * size;
          worst = std::fmax(worst, std::abs(y[r * width + c] - exact) - allowed);
        }
      CHECK(worst <= 0);
    }
  });
}

TEST_CASE("a matrix can be packed in pieces") {
  with_all_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    Product product(kernels, 300, 64, 5);
    const auto before = product.multiply(2, 5);
    const AlignedBuffer memory(kernels.packed_bytes(300, 64));
    auto again = kernels.make_packed(300, 64, memory.as<std::byte>());
    const std::span<const float> weights = product.weights;
    for (const std::size_t panel : {4, 0, 2})
      kernels.pack(again, panel,
                   weights.subspan(panel * panel_columns * 64).first(std::min<std::size_t>(128, 300 - panel * 64) * 64),
                   product.scratch);
    product.packed = std::move(again);
    CHECK(product.multiply(2, 5) == before);
  });
}

TEST_CASE("oneDNN keeps a row's bits apart from the rows and columns beside it") {
  if (!Processor::detect().avx512) return;  // other kernels make no such promise
  for (const auto precision : {Precision::f32, Precision::bf16}) {
    const auto kernels = OnednnKernels::make(precision);
    if (!kernels) continue;
    for (const std::size_t depth : {64, 96, 576, 1536}) {
      CAPTURE(depth);
      Product product(*kernels, 448, depth, 135);
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
    Product product(kernels, 512, 256, 200);
    const auto expected = product.multiply(4, 200);
    CHECK(threads_of_this_process() == before);
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
  CHECK(threads_of_this_process() == before);
}

TEST_CASE("kernels refuse what does not fit") {
  with_all_kernels([](auto kernels) {
    CAPTURE(kernels.name());
    Product product(kernels, 130, 32, 2);
    auto& packed = product.packed;
    auto& scratch = product.scratch;
    const std::span<const float> weights = product.weights;
    std::vector<float> y(2 * block_columns);
    CHECK_THROWS_AS((void)kernels.make_packed(130, 32, product.memory.template as<std::byte>().first(64)),
                    PreconditionError);
    CHECK_THROWS_AS(kernels.pack(packed, 0, weights.first(33), scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.pack(packed, 0, weights.first(32), scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.pack(packed, 1, weights, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {0, 4}, product.input, y, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {1, 1}, product.input, y, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {0, 1}, std::span(product.input).first(6), y, scratch), PreconditionError);
    CHECK_THROWS_AS(kernels.multiply(packed, {0, 3}, product.input, std::span(y).first(100), scratch),
                    PreconditionError);
  });
}

TEST_CASE("a choice that is not there says what is") {
  const auto eigen = AnyKernels::choose(KernelChoice::eigen, Precision::bf16);
  REQUIRE(!eigen);
  CHECK(eigen.error().code == ErrorCode::unsupported);
  CHECK(eigen.error().message.find("f32") != std::string::npos);
  CHECK(AnyKernels::choose(KernelChoice::eigen, std::nullopt)->name() == "eigen f32");
  CHECK(AnyKernels::choose(KernelChoice::automatic, Precision::f32));
  const bool onednn = OnednnKernels::make(Precision::f32).has_value();
  const bool bf16 = onednn && Processor::detect().avx512_bf16;
  const auto automatic = AnyKernels::choose(KernelChoice::automatic, std::nullopt);
  REQUIRE(automatic);
  CHECK(automatic->name() == (bf16 ? "onednn bf16" : onednn ? "onednn f32" : "eigen f32"));
  for (const auto choice : {KernelChoice::automatic, KernelChoice::onednn}) {
    const auto kernels = AnyKernels::choose(choice, Precision::bf16);
    CHECK(kernels.has_value() == bf16);
    if (!kernels) CHECK(kernels.error().code == ErrorCode::unsupported);
  }
}
