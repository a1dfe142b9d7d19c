#include "krul/core/processor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

using namespace krul;

TEST_CASE("a processor describes itself the same way each time") {
  const auto& processor = Processor::detect();
  CHECK(processor.describe() == Processor::detect().describe());
  CHECK(!processor.describe().empty());
  CHECK(std::is_sorted(processor.levels.begin(), processor.levels.end()));
  CHECK(processor.levels.front() == built_levels.front());
  CHECK(instruction_level() == processor.level());
}

TEST_CASE("the description names family, model and level") {
  Processor processor;
  const std::string lowest(name(built_levels.front()));
  CHECK(processor.describe() == "unknown processor (" + lowest + ")");
  processor.vendor = "GenuineTest";
  processor.brand = "Test 1";
  processor.family = 6;
  processor.model = 200;
  CHECK(processor.describe() == "Test 1 (family 6, model 200, " + lowest + ")");
  processor.levels.push_back(InstructionLevel::avx512_bf16);
  CHECK(processor.describe() == "Test 1 (family 6, model 200, avx512_bf16)");
}

TEST_CASE("bf16 products are preferred where the processor has them and is no Intel") {
  Processor processor;
  processor.vendor = "AuthenticAMD";
  CHECK(!processor.prefers_bf16());
  processor.levels.push_back(InstructionLevel::avx512_bf16);
  CHECK(processor.prefers_bf16());
  processor.vendor = "GenuineIntel";
  CHECK(!processor.prefers_bf16());
}
