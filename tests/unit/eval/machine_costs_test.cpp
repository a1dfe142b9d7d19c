#include "krul/eval/machine_costs.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/int8_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"

#include <doctest/doctest.h>

#include <chrono>

#include "krul/eval/kept_costs.hpp"
#include "krul/restore/validate.hpp"
#include "krul/strategy/catalogue.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/decoding_toy_device.hpp"
#include "support/foreign_parts.hpp"
#include "support/temporary_directory.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_profile.hpp"

namespace krul {
namespace {

using eval::MachineCosts;
using test::TickingClock;

MachineCosts some_costs() {
  return {
      .costs = {.link = {1e-4, 2.5e8, 1e-10}, .layer = {1, 2, 3, 4, 5}, .pass_s = 6, .open_s = 7, .open_s_per_byte = 8},
      .memory = {0, 2e9, 1e-9},
      .decoding = {{"int8", 0.5}, {"profile 01 step -3", 0.25}},
      .measured_s = 9,
      .disturbed = true,
      .prediction_errors = {0.125}};
}

TEST_CASE("costs are read back from their text, to the last bit") {
  const MachineCosts before = some_costs();
  const auto after = eval::machine_costs_from(to_text(before));
  REQUIRE(after.has_value());
  CHECK(to_text(*after) == to_text(before));
  CHECK(after->costs.link.core_s_per_byte == 1e-10);
  CHECK(after->costs.layer.attend_key_s == 5);
  CHECK(after->decoding == before.decoding);
  CHECK(after->prediction_errors == before.prediction_errors);
  CHECK(after->memory.bytes_per_s == 2e9);
  CHECK(after->measured_s == 9);
  CHECK(after->disturbed);
  CHECK_FALSE(after->cut_short);
}

TEST_CASE("costs of a device have what copies take") {
  MachineCosts before = some_costs();
  before.costs.copy = {0.25, 5e9, 1 << 20};
  CHECK(to_text(before) == to_text(some_costs()));  // no device computes
  before.costs.on.compute = Resource::device;
  const std::string text = to_text(before);
  const auto after = eval::machine_costs_from(text);
  REQUIRE(after.has_value());
  CHECK(to_text(*after) == text);
  CHECK(after->costs.on.compute == Resource::device);
  CHECK(after->costs.copy.row_bytes == 1 << 20);
  for (const std::string line : {"0.25 copy.latency_s\n", "1048576 copy.row_bytes\n"}) {
    std::string cut = text;
    CHECK_FALSE(eval::machine_costs_from(cut.erase(cut.find(line), line.size())));
  }
  // Where recomputing takes so long, a link of its own speed is fast.
  const auto link = after->resolved(eval::parse_link("1x").value(), toy::Backend().geometry(), 100, 5);
  CHECK(link.bytes_per_s > 0);
}

TEST_CASE("the cores decode for a device where they are sooner for all that a strategy codes by") {
  MachineCosts machine = some_costs();
  machine.decoded_by_cores = {"int8"};
  const auto decodes = [&](const AnyStrategy& strategy) { return machine.of(strategy, 4).on.decode; };
  const AnyStrategy int8 = strategy::load(Int8Codec{});
  const Composed<FixedDeepPairs, LayerPairCompressor<SlerpMerge, Int8Codec>> pairs("pairs");
  CHECK(decodes(int8) == Resource::cores);
  CHECK(to_text(machine) == to_text(some_costs()));  // no device computes
  machine.costs.on.compute = Resource::device;
  machine.costs.copy = {0.25, 5e9, 1 << 20};
  CHECK(decodes(int8) == Resource::cores);
  CHECK(decodes(strategy::load(F16Codec{})) == Resource::device);
  CHECK(decodes(strategy::recompute()) == Resource::device);
  CHECK(decodes(pairs) == Resource::device);
  machine.decoded_by_cores.insert("slerp+int8");
  CHECK(decodes(pairs) == Resource::cores);
  CHECK_NOTHROW(expects_valid(machine.of(pairs, 4)));

  const std::string text = to_text(machine);
  CHECK(text.find("\n1 decoded_by_cores int8\n") != std::string::npos);
  const auto after = eval::machine_costs_from(text);
  REQUIRE(after.has_value());
  CHECK(after->decoded_by_cores == machine.decoded_by_cores);
  CHECK(to_text(*after) == text);
  // Costs from before anybody measured it: the device decodes.
  const auto earlier =
      eval::machine_costs_from(text.substr(0, text.find("1 decoded_by_cores")) + "0 decode_on_device\n");
  REQUIRE(earlier.has_value());
  CHECK(earlier->of(int8, 4).on.decode == Resource::device);
}

TEST_CASE("what is no text of costs is refused") {
  const std::string good = to_text(some_costs());
  const auto without = [&](const std::string& what, const std::string& with) {
    std::string text = good;
    text.replace(text.find(what), what.size(), with);
    return text;
  };
  for (const std::string& text :
       {std::string(), std::string("krul costs 3\n"), without("krul costs 3", "krul costs 2"),
        good.substr(0, good.size() / 2), without("6 pass_s\n", ""), without("6 pass_s", "-6 pass_s"),
        without("6 pass_s", "nan pass_s"), without("6 pass_s", "six pass_s"), without("250000000 link", "0 link"),
        without("2000000000 memory", "0 memory"), without("6 pass_s", "6pass_s"), without("6 pass_s\n", " pass_s\n")}) {
    CAPTURE(text);
    const auto refused = eval::machine_costs_from(text);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::corrupt);
  }
}

TEST_CASE("a strategy's costs have what its codings take to decode") {
  const MachineCosts machine = some_costs();
  CHECK(machine.of(strategy::load(Int8Codec{}), 4).layer.decode_row_s == 0.5);
  CHECK(machine.of(strategy::load(F16Codec{}), 4).layer.decode_row_s == 0);
  CHECK(machine.of(strategy::krul(), 4).layer.decode_row_s == 0.5);
  CHECK(machine.of(strategy::krul(), 4).layer.joint_row_s == 0);
}

TEST_CASE("costs over a link are those of the store, of memory, or of a stated rate") {
  using eval::LinkName;
  const MachineCosts machine = some_costs();
  const auto link = [&](const std::string& text) {
    return machine.of(strategy::krul(), 4, eval::parse_link(text).value()).link;
  };
  CHECK(link("disk").bytes_per_s == 2.5e8);
  CHECK(link("memory").bytes_per_s == 2e9);
  CHECK(link("50MB/s").bytes_per_s == 5e7);
  CHECK_THROWS_AS(static_cast<void>(link("pcie")), PreconditionError);  // no device computes
  MachineCosts on_device = machine;
  on_device.costs.on.compute = Resource::device;
  CHECK(on_device.of(strategy::krul(), 4, eval::parse_link("pcie").value()).link.bytes_per_s == 2e9);
  CHECK(link("50MB/s").core_s_per_byte == machine.memory.core_s_per_byte);
  const LinkName relative = eval::parse_link("1.3x").value();
  CHECK_THROWS_AS(static_cast<void>(machine.of(strategy::krul(), 4, relative)), PreconditionError);
  const Geometry geometry = toy::Backend(ElementType::f16).geometry();
  const LinkName rate = machine.resolved(relative, geometry, 100, 4);
  CHECK(rate.kind == LinkName::Kind::rate);
  // Loading all at two bytes a value takes a 1.3rd of what recomputing all takes.
  CHECK(machine.resolved(eval::parse_link("2.6x").value(), geometry, 100, 4).bytes_per_s ==
        doctest::Approx(2 * rate.bytes_per_s));
  CHECK(machine.resolved(rate, geometry, 100, 4).bytes_per_s == rate.bytes_per_s);
}

TEST_CASE("costs no longer fit when restores are predicted badly again and again") {
  MachineCosts machine;
  RestoreReport report;
  report.first_token_s = 1;
  report.predicted.first_token_s = 0.5;
  for (int i = 0; i < 3; ++i) machine.saw(report);
  CHECK(machine.fit());
  machine.saw(report);
  CHECK_FALSE(machine.fit());
  report.predicted.first_token_s = 1.1;
  for (int i = 0; i < 20; ++i) machine.saw(report);
  CHECK(machine.fit());
  CHECK(machine.prediction_errors.size() == 8);
  report.predicted = {};
  machine.saw(report);  // nobody predicted
  CHECK(machine.fit());
}

TEST_CASE("costs are measured for any backend and any coding, once, and leave nothing in the store") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  const test::TemporaryDirectory folder;
  const auto file = folder.path() / "deep" / eval::costs_file_name(model.identity(), "memory");
  const auto profile = test::toy_profile(model);
  using Mine = Composed<test::FirstAndLast, LayerPairCompressor<test::DifferingBits, test::InvertedCodec>>;
  const std::vector<AnyStrategy> few = {strategy::krul(profile)}, more = {strategy::krul(profile), Mine("mine")};
  const eval::CostMeasurement how{.seconds = 1, .longest = 64, .prompt = 4, .rounds = 2};
  const auto measured = eval::kept_costs<toy::Backend, MemoryStore, TickingClock>(model, store, few, file, how);
  REQUIRE_MESSAGE(measured.has_value(), measured.error().message);
  CHECK(measured->decoding.size() == 2);  // by the profile, and one byte a value
  CHECK(measured->costs.link.bytes_per_s > 0);
  for (const AnyStrategy& strategy : few) {
    const Costs costs = measured->of(strategy, model.geometry().layers);
    CHECK_NOTHROW(expects_valid(costs));
    CHECK(costs.layer.joint_row_s > 0);
    CHECK(costs.layer.decode_row_s > 0);
  }
  CHECK(store.used() == 0);

  const auto again = eval::kept_costs<toy::Backend, MemoryStore, TickingClock>(model, store, more, file, how);
  REQUIRE(again.has_value());
  CHECK(again->costs.pass_s == measured->costs.pass_s);
  CHECK(again->decoding.size() == 4);
  CHECK(again->decoding.contains("acme.differing-bits.1+acme.inverted.1"));

  MachineCosts off = *again;
  off.prediction_errors = {1, 1, 1, 1};
  REQUIRE(eval::keep(off, file));
  const auto anew = eval::kept_costs<toy::Backend, MemoryStore, TickingClock>(model, store, few, file, how);
  REQUIRE(anew.has_value());
  CHECK(anew->prediction_errors.empty());
  CHECK(anew->decoding.size() == 2);
}

TEST_CASE("costs are measured where a device computes") {
  test::ToyDevice model;
  MemoryStore store;
  const auto measured = eval::measure_costs<test::ToyDevice, MemoryStore, TickingClock>(
      model, store, {strategy::load(Int8Codec{})}, {}, {.seconds = 1, .longest = 64, .prompt = 4, .rounds = 2});
  REQUIRE_MESSAGE(measured.has_value(), measured.error().message);
  CHECK(measured->costs.on.compute == Resource::device);
  CHECK(measured->costs.copy.row_bytes == 2 * model.geometry().kv_row_bytes());
  CHECK(measured->costs.copy.bytes_per_s > 0);
  CHECK(measured->decoding.at("int8") > 0);
  CHECK(measured->decoded_by_cores.contains("int8"));  // who else
  CHECK_NOTHROW(expects_valid(measured->of(strategy::load(Int8Codec{}), model.geometry().layers)));
  CHECK(store.used() == 0);
}

/// Moved by a device, and by every look at it.
struct TickingDeviceClock {
  ManualClock device;

  [[nodiscard]] TimePoint now() const {
    device.advance(std::chrono::microseconds(1));
    return device.now();
  }
  void sleep_until(TimePoint) const {}
};
static_assert(Clock<TickingDeviceClock>);

TEST_CASE("where a device could decode, both ways are measured and the sooner one is kept") {
  const AnyStrategy int8 = strategy::load(Int8Codec{}), f16 = strategy::load(F16Codec{});
  for (const int chunk_s : {1, 20}) {  // a copy of its rows takes 7 seconds
    CAPTURE(chunk_s);
    test::DecodingToyDevice model;
    model.chunk_s = chunk_s;
    eval::MachineMeter<test::DecodingToyDevice, TickingDeviceClock> meter(
        model, AnyStore(MemoryStore()), {.seconds = 1e9, .longest = 64, .prompt = 4, .rounds = 1}, {model.clock});
    std::optional<MachineCosts> measured;
    const auto status = meter.add_missing(measured, std::vector{int8, f16});
    REQUIRE_MESSAGE(status.has_value(), status.error().message);
    const bool by_device = chunk_s == 1;
    const std::size_t layers = model.geometry().layers;
    CHECK(measured->decoded_by_cores.contains("int8") == !by_device);
    CHECK(measured->decoded_by_cores.contains("f16"));  // it has no kernel for these
    CHECK(measured->of(int8, layers).on.decode == (by_device ? Resource::device : Resource::cores));
    CHECK(measured->of(f16, layers).on.decode == Resource::cores);
    CHECK(measured->decoding.at("int8") == doctest::Approx(by_device ? 1.0 / 16 : 0).epsilon(1e-3));  // of 16 tokens
    CHECK(measured->costs.copy.latency_s > 1);  // learnt from rows, whoever decodes
  }
}

TEST_CASE("whenever time runs out, what was measured is enough") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  for (const double seconds : {1e-6, 1e-3, 3e-3, 1e-2, 3e-2}) {
    CAPTURE(seconds);
    const auto measured = eval::measure_costs<toy::Backend, MemoryStore, TickingClock>(
        model, store, {strategy::load(Int8Codec{})}, {}, {.seconds = seconds, .longest = 64, .prompt = 4, .rounds = 4});
    REQUIRE(measured.has_value());
    CHECK_NOTHROW(expects_valid(measured->of(strategy::load(Int8Codec{}), 4)));
  }
}

TEST_CASE("a file that cannot be kept costs another measurement, and no more") {
  toy::Backend model{ElementType::f16};
  MemoryStore store;
  const auto measured = eval::kept_costs<toy::Backend, MemoryStore, TickingClock>(
      model, store, {strategy::load(Int8Codec{})}, "/dev/null/costs", {.seconds = 1, .longest = 64, .prompt = 4});
  CHECK(measured.has_value());
  const auto kept = eval::keep(*measured, "/dev/null/costs");
  REQUIRE_FALSE(kept);
  CHECK(kept.error().code == ErrorCode::io);
  CHECK(kept.error().message.find("/dev/null") != std::string::npos);
  const test::TemporaryDirectory folder;
  std::filesystem::create_directories(folder.path() / "costs" / "in the way");
  CHECK(eval::keep(*measured, folder.path() / "costs").error().message.find("directory") != std::string::npos);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);  // nothing else is left
}

TEST_CASE("a store that cannot be written is an error, and what was begun is erased") {
  toy::Backend model{ElementType::f16};
  MemoryStore store(100);
  const auto measured = eval::measure_costs<toy::Backend, MemoryStore, TickingClock>(
      model, store, {strategy::load(Int8Codec{})}, {}, {.seconds = 1, .longest = 64, .prompt = 4});
  REQUIRE_FALSE(measured);
  CHECK(measured.error().code == ErrorCode::no_space);
  CHECK(store.used() == 0);
}

}  // namespace
}  // namespace krul
