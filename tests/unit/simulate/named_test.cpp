#include "krul/simulate/named.hpp"

#include <doctest/doctest.h>

using namespace krul;
using namespace krul::simulate;

TEST_CASE("models, hardware and strategies by their names") {
  CHECK(shape_named("llama-7b")->layers == 32);
  CHECK(hardware_named("h100-nvme")->link.bytes_per_s == 6.5e9);
  const auto two = strategies_named("krul-best,recompute");
  REQUIRE(two);
  REQUIRE(two->size() == 2);
  CHECK(two->back().name == "recompute");
  CHECK(strategies_named("")->size() == simulated_strategies().size());
}

TEST_CASE("who asks for what is not there is told what is") {
  const auto says = [](const auto& result, const char* what) {
    REQUIRE_FALSE(result);
    CHECK(result.error().code == ErrorCode::invalid_argument);
    CHECK(result.error().message.find(what) != std::string::npos);
  };
  says(shape_named("llama-8b"), "qwen2-72b");
  says(hardware_named("a100"), "pcie4");
  says(hardware_named("b200-pcie4"), "h100");
  says(strategies_named("recompute,pie"), "krul-best");
}
