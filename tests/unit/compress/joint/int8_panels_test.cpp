#include "krul/compress/joint/int8_panels.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "krul/core/error.hpp"

using namespace krul;

namespace {

std::vector<std::int8_t> random_bytes(std::size_t count, std::mt19937_64& random) {
  std::uniform_int_distribution<int> any(-127, 127);
  std::vector<std::int8_t> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::int8_t>(any(random));
  return bytes;
}

}  // namespace

TEST_CASE("products of panels at every level against whole numbers") {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  for (const auto level : Processor::detect().levels) {
    CAPTURE(name(level));
    for (const auto& [rows, depth, columns] :
         {std::tuple{1, 2, 1}, {8, 16, 16}, {13, 50, 47}, {64, 96, 130}, {3, 7, 33}, {5, 0, 20}, {9, 1537, 3}}) {
      const auto r = static_cast<std::size_t>(rows), d = static_cast<std::size_t>(depth),
                 c = static_cast<std::size_t>(columns);
      const auto right = random_bytes(d * c, random);
      std::vector<std::int8_t> flipped(c * d);
      for (std::size_t i = 0; i < d; ++i)
        for (std::size_t j = 0; j < c; ++j) flipped[j * d + i] = right[i * c + j];
      std::vector<float> left(r * d);
      for (float& value : left) value = normal(random);
      const Int8Rows given(r, d, left);
      for (const auto& panels : {Int8Panels(d, c, right), Int8Panels::transposed(d, c, flipped)}) {
        const std::size_t width = panels.panels() * Int8Panels::width;
        std::vector<float> out(given.padded_rows() * width, -1.0F);
        multiply(given, panels, out, level);
        for (std::size_t i = 0; i < r; ++i)
          for (std::size_t j = 0; j < c; ++j) {
            std::int64_t sum = 0;
            for (std::size_t k = 0; k < d; ++k)
              sum += static_cast<std::int8_t>(given.row(i)[k / 4] >> k % 4 * 8) * std::int64_t{right[k * c + j]};
            CHECK(out[i * width + j] == given.scale(i) * static_cast<float>(sum));
          }
        for (std::size_t i = r; i < given.padded_rows(); ++i) CHECK(out[i * width] == 0);
      }
    }
  }
}

TEST_CASE("columns are rounded to 127 steps of their largest value, and their products begin at an offset") {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  constexpr std::size_t rows = 7, depth = 30, columns = 21;
  std::vector<float> left(rows * depth), right(depth * columns), offsets(columns);
  for (auto* values : {&left, &right, &offsets})
    for (float& value : *values) value = normal(random);
  for (std::size_t k = 0; k < depth; ++k) right[k * columns + 3] = 0;
  const Int8Rows given(rows, depth, left);
  const auto panels = Int8Panels::rounded(depth, columns, right, offsets);
  std::vector<std::vector<float>> found;
  for (const auto level : Processor::detect().levels) {
    auto& out = found.emplace_back(given.padded_rows() * panels.panels() * Int8Panels::width);
    multiply(given, panels, out, level);
    CHECK(out == found.front());
    for (std::size_t j = 0; j < columns; ++j) {
      double largest = 0;
      for (std::size_t k = 0; k < depth; ++k) largest = std::max(largest, std::abs(double{right[k * columns + j]}));
      for (std::size_t i = 0; i < rows; ++i) {
        double exact = offsets[j], size = std::abs(exact), bound = 0;
        for (std::size_t k = 0; k < depth; ++k) {
          const double row = given.scale(i) * static_cast<std::int8_t>(given.row(i)[k / 4] >> k % 4 * 8);
          exact += row * right[k * columns + j];
          size += std::abs(row * right[k * columns + j]);
          bound += std::abs(row) * largest / 254;  // half a step of the column
        }
        // Scales, their products and the rounded steps are floats: four roundings of at most 2^-24 each.
        CHECK(std::abs(out[i * panels.panels() * Int8Panels::width + j] - exact) <= bound + size * 0x1p-22);
      }
    }
  }
}

TEST_CASE("rows are rounded to 127 steps of their largest value, to nearest even") {
  const Int8Rows rows(2, 5, std::vector<float>{2, -1, 0.5F * 2 / 127, 1.5F * 2 / 127, -2, 0, 0, 0, 0, 0});
  CHECK(rows.scale(0) == 2.0F / 127);
  std::int8_t found[8];
  std::memcpy(found, rows.row(0), sizeof found);
  CHECK(found[0] == 127);
  CHECK(std::abs(found[1]) == 64);  // -63.5
  CHECK(found[2] == 0);
  CHECK(found[3] == 2);
  CHECK(found[4] == -127);
  CHECK(found[5] == 0);
  CHECK(rows.excess(0) == 128 * (127 + found[1] + 0 + 2 - 127));
  CHECK(rows.scale(1) == 0);
}

TEST_CASE("rows may lie apart, and end anywhere in a vector") {
  for (const std::size_t depth : {1, 15, 16, 33}) {
    std::vector<float> apart(3 * 40, 1e9F), together;
    for (std::size_t row = 0; row < 3; ++row)
      for (std::size_t i = 0; i < depth; ++i) {
        apart[row * 40 + i] = static_cast<float>(row + 1) * static_cast<float>(static_cast<int>(i * 7 % 11) - 5);
        together.push_back(apart[row * 40 + i]);
      }
    const Int8Rows one(3, depth, apart, 40), other(3, depth, together);
    for (std::size_t row = 0; row < 3; ++row) {
      CHECK(one.scale(row) == other.scale(row));
      CHECK(one.excess(row) == other.excess(row));
      CHECK(std::equal(one.row(row), one.row(row) + one.quads(), other.row(row)));
    }
  }
}

TEST_CASE("shapes that do not fit are refused") {
  const std::vector<std::int8_t> values(10);
  CHECK_THROWS_AS(Int8Panels(2, 4, values), PreconditionError);
  CHECK_THROWS_AS((void)Int8Panels::transposed(2, 4, values), PreconditionError);
  CHECK_THROWS_AS(Int8Panels(Int8Panels::most_depth + 1, 1, std::vector<std::int8_t>(Int8Panels::most_depth + 1)),
                  PreconditionError);
  CHECK_THROWS_AS((void)Int8Panels::rounded(2, 4, std::vector<float>(7), std::vector<float>(4)), PreconditionError);
  CHECK_THROWS_AS((void)Int8Panels::rounded(2, 4, std::vector<float>(8), std::vector<float>(3)), PreconditionError);
  CHECK_THROWS_AS(Int8Rows(2, 4, std::vector<float>(7)), PreconditionError);
  CHECK_THROWS_AS(Int8Rows(2, 4, std::vector<float>(13), 10), PreconditionError);
  CHECK_THROWS_AS(Int8Rows(2, 4, std::vector<float>(8), 3), PreconditionError);
  std::vector<float> out(8 * 16);
  CHECK_THROWS_AS(multiply(Int8Rows(2, 5, std::vector<float>(10)), Int8Panels(2, 5, values), out), PreconditionError);
  CHECK_THROWS_AS(multiply(Int8Rows(2, 2, std::vector<float>(4)), Int8Panels(2, 5, values), std::span(out).first(16)),
                  PreconditionError);
}
