#include "cuda/fibre_grid.hpp"

#include <doctest/doctest.h>

using namespace krul;
using namespace krul::cuda;
using test::run_grid;

namespace {

/// Each block adds up the numbers of its threads by halving; may leave out the barrier.
struct SumThreads {
  std::uint32_t* sums;  // [blocks]
  bool meets;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    auto* const numbers = reinterpret_cast<std::uint32_t*>(block.shared());
    numbers[block.thread()] = block.thread() + 1;
    for (unsigned half = block.threads() / 2; half > 0; half /= 2) {
      if (meets) block.sync();
      if (block.thread() < half) numbers[block.thread()] += numbers[block.thread() + half];
    }
    if (block.thread() == 0) sums[block.index()] = numbers[0];
  }
};

/// Lane i of each warp gets what lane 31 - i has, and how many lanes are odd.
struct Mirror {
  std::uint32_t *values, *odd;  // [threads]

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const unsigned lane = lane_of(block);
    values[block.thread()] = block.shuffle(100 * warp_of(block) + lane, warp_lanes - 1 - lane);
    odd[block.thread()] = block.ballot(lane % 2 != 0);
  }
};

/// Half of the threads never come.
struct HalfMeets {
  bool in_warp;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    if (block.thread() % 2 == 0) return;
    if (in_warp)
      (void)block.ballot(true);
    else
      block.sync();
  }
};

/// The warp's tile of a product of whole numbers: [warps] of [16, 16] and [16, 8] halves, and sums [16, 8].
struct MultiplyTile {
  ElementType half;
  const std::uint16_t *left, *right;
  float* sums;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    const unsigned r = lane_of(block) / 4, c = 2 * (lane_of(block) % 4);
    const std::uint16_t *const rows = left + warp_of(block) * 256, *const columns = right + warp_of(block) * 128;
    float* const out = sums + warp_of(block) * 128;
    const auto in_row = [&](unsigned row, unsigned column) {
      return rows[row * 16 + column] | std::uint32_t{rows[row * 16 + column + 1]} << 16;
    };
    const auto in_column = [&](unsigned row) {
      return columns[row * 8 + r] | std::uint32_t{columns[row * 8 + 8 + r]} << 16;
    };
    TileSums mine{{out[r * 8 + c], out[r * 8 + c + 1], out[r * 8 + 64 + c], out[r * 8 + 65 + c]}};
    block.add_tile_product(half, {{in_row(r, c), in_row(r + 8, c), in_row(r, c + 8), in_row(r + 8, c + 8)}},
                           {{in_column(c), in_column(c + 8)}}, mine);
    for (unsigned i = 0; i < 4; ++i) out[(r + i / 2 * 8) * 8 + c + i % 2] = mine.values[i];
  }
};

/// The first lanes of two warps give numbers to all threads, twice. Without the barrier between, a warp that is ahead
/// gives its second number before the other has read the first, though its lanes meet in between.
struct GivesTwice {
  std::uint32_t* sums;
  bool meets;

  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    auto* const given = reinterpret_cast<std::uint32_t*>(block.shared());
    std::uint32_t sum = 0;
    for (std::uint32_t round = 1; round <= 2; ++round) {
      const std::uint32_t of_warp = block.shuffle(round, 0);
      if (meets) block.sync();
      if (lane_of(block) == 0) given[warp_of(block)] = of_warp;
      block.sync();
      sum += given[0] + given[1];
    }
    sums[block.thread()] = sum;
  }
};

struct Throws {
  template <KernelBlock Block>
  KRUL_DEVICE void operator()(Block& block) const {
    if (block.thread() == 5) throw std::runtime_error("from a thread");
    block.sync();
  }
};

}  // namespace

TEST_CASE("threads of a block meet, and a missing barrier is found by some order") {
  constexpr std::uint32_t threads = 128, expected = threads * (threads + 1) / 2;
  unsigned wrong = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::array<std::uint32_t, 3> sums{};
    run_grid(SumThreads{sums.data(), true}, {3, threads, threads * 4}, seed);
    for (const std::uint32_t sum : sums) CHECK(sum == expected);
    run_grid(SumThreads{sums.data(), false}, {3, threads, threads * 4}, seed);
    wrong += std::ranges::any_of(sums, [](std::uint32_t sum) { return sum != expected; }) ? 1 : 0;
  }
  CHECK(wrong > 15);
}

TEST_CASE("a barrier is missed where only the lanes of each warp meet") {
  unsigned wrong = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    std::array<std::uint32_t, 64> sums{};
    run_grid(GivesTwice{sums.data(), true}, {1, 64, 8}, seed);
    CHECK(std::ranges::all_of(sums, [](std::uint32_t sum) { return sum == 6; }));
    run_grid(GivesTwice{sums.data(), false}, {1, 64, 8}, seed);
    wrong += std::ranges::any_of(sums, [](std::uint32_t sum) { return sum != 6; }) ? 1 : 0;
  }
  CHECK(wrong >= 10);
}

TEST_CASE("lanes of a warp give and vote") {
  std::array<std::uint32_t, 64> values{}, odd{};
  run_grid(Mirror{values.data(), odd.data()}, {1, 64}, 7);
  for (unsigned thread = 0; thread < 64; ++thread) {
    CHECK(values[thread] == 100 * (thread / 32) + 31 - thread % 32);
    CHECK(odd[thread] == 0xaaaaaaaaU);
  }
}

TEST_CASE("a warp multiplies tiles of halves, and adds to what is there") {
  std::mt19937_64 random(3);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const ElementType half = seed % 2 == 0 ? ElementType::f16 : ElementType::bf16;
    const auto whole = [&] { return static_cast<float>(static_cast<int>(random() % 255) - 127); };
    const auto bits = [&](float value) {
      return half == ElementType::f16 ? f16_from_float(value) : bf16_from_float(value);
    };
    std::vector<float> left(512), right(256), sums(256);
    for (auto* all : {&left, &right, &sums}) std::ranges::generate(*all, whole);
    std::vector<float> expected = sums;
    for (unsigned i = 0; i < 256; ++i)
      for (unsigned k = 0; k < 16; ++k) expected[i] += left[i / 8 * 16 + k] * right[i / 128 * 128 + k * 8 + i % 8];
    std::vector<std::uint16_t> left_halves, right_halves;
    std::ranges::transform(left, std::back_inserter(left_halves), bits);
    std::ranges::transform(right, std::back_inserter(right_halves), bits);
    run_grid(MultiplyTile{half, left_halves.data(), right_halves.data(), sums.data()}, {1, 64}, seed);
    CHECK(sums == expected);
  }
}

TEST_CASE("threads that wait for others in vain are an error, and so is what a thread throws") {
  CHECK_THROWS_AS(run_grid(HalfMeets{true}, {1, 32}, 1), std::logic_error);
  CHECK_THROWS_AS(run_grid(HalfMeets{false}, {1, 64}, 1), std::logic_error);
  CHECK_THROWS_AS(run_grid(Throws{}, {1, 64}, 1), std::runtime_error);
  CHECK_THROWS_AS(run_grid(Throws{}, {1, 33}, 1), std::logic_error);
}
