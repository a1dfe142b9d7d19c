#include "krul/compress/joint/bf16_product.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "krul/core/error.hpp"
#include "krul/core/half.hpp"

using namespace krul;

TEST_CASE("products of bf16 on every path against double") {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  for (const auto path : {ProductPath::portable, ProductPath::avx512_bf16}) {
    if (!available(path)) continue;
    for (const auto& [rows, depth, columns] :
         {std::tuple{1, 2, 1}, {8, 16, 16}, {13, 50, 47}, {64, 96, 130}, {3, 7, 33}, {5, 0, 20}}) {
      const auto r = static_cast<std::size_t>(rows), d = static_cast<std::size_t>(depth),
                 c = static_cast<std::size_t>(columns);
      std::vector<std::uint16_t> right(d * c), flipped(c * d);
      for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j < c; ++j) right[i * c + j] = flipped[j * d + i] = bf16_from_float(normal(random));
      const std::size_t stride = d + d % 2;
      std::vector<float> left(r * stride);
      for (std::size_t i = 0; i < r; ++i)
        for (std::size_t j = 0; j < d; ++j) left[i * stride + j] = float_from_bf16(bf16_from_float(normal(random)));
      Bf16Rows given;
      given.reset(r, d);
      given.round_from(left, stride);
      for (const auto& panels : {Bf16Panels(d, c, right), Bf16Panels::transposed(d, c, flipped)}) {
        const std::size_t width = panels.panels() * Bf16Panels::width;
        std::vector<float> out(given.padded_rows() * width, -1.0F);
        multiply(given, panels, out, path);
        for (std::size_t i = 0; i < given.padded_rows(); ++i)
          for (std::size_t j = 0; j < width; ++j) {
            double sum = 0, size = 0;
            for (std::size_t k = 0; k < d && i < r && j < c; ++k) {
              const double product = double{left[i * stride + k]} * float_from_bf16(right[k * c + j]);
              sum += product;
              size += std::abs(product);
            }
            // Each of the d additions rounds once, and so may each product.
            CHECK(std::abs(out[i * width + j] - sum) <= 2 * static_cast<double>(d) * 0x1p-24 * size);
          }
      }
    }
  }
}

TEST_CASE("rows are rounded to nearest even") {
  Bf16Rows rows;
  rows.reset(1, 2);
  rows.round_from(std::vector<float>{1.00390625F, -3}, 2);  // half way between two values
  CHECK(rows.pair(0)[0] == (0xc040U << 16 | 0x3f80U));
}

TEST_CASE("shapes that do not fit are refused") {
  const std::vector<std::uint16_t> values(6);
  CHECK_THROWS_AS(Bf16Panels(2, 4, values), PreconditionError);
  CHECK_THROWS_AS((void)Bf16Panels::transposed(2, 4, values), PreconditionError);
  Bf16Rows rows;
  rows.reset(2, 4);
  CHECK_THROWS_AS(rows.round_from(std::vector<float>(7), 4), PreconditionError);
  std::vector<float> out(8 * 16);
  CHECK_THROWS_AS(multiply(rows, Bf16Panels(2, 3, values), out), PreconditionError);
  rows.reset(2, 2);
  CHECK_THROWS_AS(multiply(rows, Bf16Panels(2, 3, values), std::span(out).first(16)), PreconditionError);
}
