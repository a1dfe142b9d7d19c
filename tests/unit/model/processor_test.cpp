#include "krul/model/processor.hpp"

#include <doctest/doctest.h>

using krul::Processor;

TEST_CASE("a processor describes itself the same way each time") {
  const auto processor = Processor::detect();
  CHECK(processor.describe() == Processor::detect().describe());
  CHECK(!processor.describe().empty());
  if (processor.avx512_bf16 || processor.avx512_vnni) CHECK(processor.avx512);
}

TEST_CASE("the description names family, model and features") {
  Processor processor;
  CHECK(processor.describe() == "unknown processor");
  processor.vendor = "GenuineTest";
  processor.brand = "Test 1";
  processor.family = 6;
  processor.model = 200;
  CHECK(processor.describe() == "Test 1 (family 6, model 200)");
  processor.avx512 = processor.avx512_bf16 = true;
  CHECK(processor.describe() == "Test 1 (family 6, model 200, avx512 bf16)");
}

TEST_CASE("bf16 products are preferred where the processor has them and is no Intel") {
  Processor processor;
  processor.vendor = "AuthenticAMD";
  CHECK(!processor.prefers_bf16());
  processor.avx512_bf16 = true;
  CHECK(processor.prefers_bf16());
  processor.vendor = "GenuineIntel";
  CHECK(!processor.prefers_bf16());
}
