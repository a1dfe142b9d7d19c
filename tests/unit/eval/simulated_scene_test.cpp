#include "krul/eval/simulated_scene.hpp"

#include <doctest/doctest.h>

#include "krul/simulate/named.hpp"

namespace krul::eval {
namespace {

using simulate::hardware_named, simulate::shape_named;

double recompute_over_load_of(const simulate::Scene& scene) {
  return simulate::two_byte_rows(scene, FullRecompute{}).predicted.first_token_s /
         simulate::two_byte_rows(scene, FullLoad{}).predicted.first_token_s;
}

LinkName link(const char* text) {
  return parse_link(text).value();
}

TEST_CASE("counted costs over the hardware's own link, a rate and a relative one") {
  const auto hardware = hardware_named("a100-pcie4").value();
  const SimulatedReturn of{shape_named("llama-7b").value(), 7000, 64};
  const auto own = counted_scene(hardware, of);
  REQUIRE(own);
  CHECK(own->costs.link.bytes_per_s == hardware.link.bytes_per_s);
  CHECK(own->history == 7000);
  CHECK(own->prompt == 64);
  CHECK(own->block == 128);
  CHECK(counted_scene(hardware, of, link("9GB/s"))->costs.link.bytes_per_s == 9e9);
  CHECK(recompute_over_load_of(counted_scene(hardware, of, link("1.3x")).value()) == doctest::Approx(1.3));
  for (const char* unknown : {"disk", "memory", "pcie"})
    CHECK(counted_scene(hardware, of, link(unknown)).error().code == ErrorCode::invalid_argument);
  // A prompt that is longer than its history takes most of the time, wherever that comes from.
  CHECK(counted_scene(hardware, {of.shape, 100, 128}, link("100x")).error().code == ErrorCode::invalid_argument);
}

TEST_CASE("measured costs over all kinds of links") {
  MachineCosts measured{.costs = {.link = {1e-4, 2e9, 1e-10},
                                  .layer = {.call_s = 1e-6,
                                            .project_row_s = 1e-5,
                                            .finish_row_s = 1e-5,
                                            .attend_pair_s = 1e-9,
                                            .attend_key_s = 1e-9},
                                  .pass_s = 1e-3},
                        .memory = {1e-6, 8e9, 1e-11},
                        .decoding = {{"f16", 1e-6}, {"int8", 3e-6}}};
  const SimulatedReturn of{shape_named("smollm2-135m").value(), 1024, 32};
  const auto disk = measured_scene(measured, of, link("disk"));
  REQUIRE(disk);
  CHECK(disk->costs.link.bytes_per_s == 2e9);
  CHECK(disk->int8.decode_row_s == 3e-6);
  CHECK(disk->merge_row_s == 0);
  CHECK(disk->history == 1024);
  CHECK(measured_scene(measured, of, link("memory"))->costs.link.bytes_per_s == 8e9);
  CHECK(measured_scene(measured, of, link("50MB/s"))->costs.link.bytes_per_s == 5e7);
  CHECK(recompute_over_load_of(measured_scene(measured, of, link("1.3x")).value()) == doctest::Approx(1.3));
  CHECK(measured_scene(measured, of, link("pcie")).error().message.find("use the link memory") != std::string::npos);
  CHECK(measured_scene(measured, {of.shape, 100, 128}, link("100x")).error().code == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace krul::eval
