#include "krul/eval/report_figures.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

namespace krul {
namespace {

template <class Report>
nlohmann::ordered_json json_of(const Report& report) {
  nlohmann::ordered_json object;
  eval::for_each_figure(report, [&](const char* name, const auto& value) { object[name] = value; });
  return object;
}

TEST_CASE("a restore's figures are named with their units") {
  RestoreReport report;
  report.asked = 20;
  report.plan.prefix = {7, 3};
  report.opening_s = 0.5;
  report.first_token_s = 1;
  report.busy[Resource::link] = 0.25;
  report.reasons = {"why"};
  const auto found = json_of(report);
  CHECK(found.begin().key() == "asked_tokens");
  CHECK(found.at("asked_tokens") == 20);
  CHECK(found.at("recomputed_tokens") == 7);
  CHECK(found.at("ttft_ms") == 1500);
  CHECK(found.at("bound_ms") == 250);
  CHECK(found.at("bubble_ms") == 750);
  CHECK(found.at("reasons").at(0) == "why");
  CHECK_FALSE(found.contains("device_ms"));
  report.busy[Resource::device] = 0.75;
  const auto on_device = json_of(report);
  CHECK(on_device.at("device_ms") == 750);
  CHECK(on_device.at("copy_ms") == 0);
}

TEST_CASE("what is saved is told with the bytes of its chunks") {
  Manifest manifest;
  manifest.conversation = "a\nb";
  manifest.layers = 2;
  manifest.block = 64;
  manifest.rows = 64;
  manifest.chunks = {{.offset = 0, .bytes = 5}, {.offset = 5, .bytes = 7}};
  const auto found = json_of(manifest);
  CHECK(found.at("id") == "a\nb");
  CHECK(found.at("escaped_id") == "a\\nb");
  CHECK(found.at("bytes") == 12);
  manifest.chunks[1] = manifest.chunks[0];  // one chunk of both layers
  CHECK(eval::chunk_bytes(manifest) == 5);
  manifest.identity.weights = "12ab";
  CHECK(json_of(manifest.identity).at("weights") == "12ab");
  CHECK(json_of(SaveReport{.new_rows = 3}).at("new_rows") == 3);
}

}  // namespace
}  // namespace krul
