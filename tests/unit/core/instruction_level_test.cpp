#include "krul/core/instruction_level.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace krul;
using enum InstructionLevel;

TEST_CASE("names of levels are read back, and nothing else is one") {
  for (const auto level : {portable, avx2, avx2_vnni, avx512, avx512_bf16, neon})
    CHECK(instruction_level_from(name(level)) == level);
  for (const char* const text : {"", "AVX2", "avx2 ", "avx", "best"}) CHECK(!instruction_level_from(text));
}

TEST_CASE("a level includes what runs where it does") {
  for (const auto level : built_levels) CHECK(includes(level, level));
  CHECK(includes(avx2_vnni, avx2));
  CHECK(includes(avx512_bf16, portable));
  CHECK(!includes(avx2, avx512));
  CHECK(!includes(avx512, avx2_vnni));  // AVX-512 has dot products of bytes of its own
  CHECK(!includes(neon, avx2));
  CHECK(!includes(avx512, neon));
}

TEST_CASE("levels are lowered to those that lie not above the named one, and the first always stays") {
  const std::vector<InstructionLevel> all{portable, avx2, avx512, avx512_bf16};
  const auto lowered = [&](const char* most) {
    auto levels = all;
    CHECK(lower(levels, most));
    return levels;
  };
  CHECK(lowered("") == all);
  CHECK(lowered("neon") == all);
  CHECK(lowered("avx512") == std::vector{portable, avx2, avx512});
  CHECK(lowered("avx2_vnni") == std::vector{portable, avx2});
  CHECK(lowered("portable") == std::vector{portable});
  std::vector<InstructionLevel> arm{neon};
  CHECK(lower(arm, "portable"));
  CHECK(arm == std::vector{neon});
}

TEST_CASE("a level that nobody knows is refused with those that there are") {
  std::vector<InstructionLevel> levels(built_levels.begin(), built_levels.end());
  const auto status = lower(levels, "avx3");
  REQUIRE(!status);
  CHECK(status.error().code == ErrorCode::invalid_argument);
  CHECK(status.error().message.find("avx3") != std::string::npos);
  CHECK(status.error().message.find(name(built_levels.back())) != std::string::npos);
}

TEST_CASE("the highest level that runs here and that there is code for is taken") {
  static constexpr InstructionLevel all[] = {portable, avx2, avx2_vnni, avx512, avx512_bf16, neon};
  const auto taken = []<InstructionLevel... Levels>(InstructionLevel here) {
    return *at_level<Levels...>(here, []<InstructionLevel level>() { return &all[static_cast<std::size_t>(level)]; });
  };
  const auto here = built_levels.back();
  CHECK(taken.operator()<portable, avx2, avx2_vnni, avx512, avx512_bf16, neon>(here) == here);
  CHECK(taken.operator()<portable, neon>(here) == built_levels.front());
}
