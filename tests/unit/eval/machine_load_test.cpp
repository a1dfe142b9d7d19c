#include "krul/eval/machine_load.hpp"

#include <doctest/doctest.h>

#include <unistd.h>

namespace {
using namespace krul::eval;
using krul::ErrorCode;

TEST_CASE("processor times: busy, stolen and idle, guest time not counted twice") {
  const auto times = parse_processor_times(
      "cpu  100 20 30 1000 50 4 6 7 60 5\n"
      "cpu0 50 10 15 500 25 2 3 4 30 2\n"
      "intr 1 2 3\n");
  REQUIRE(times.has_value());
  CHECK(*times == ProcessorTimes{160, 7, 1217});
}

TEST_CASE("processor times of an old kernel without steal") {
  const auto times = parse_processor_times("cpu 10 0 5 100\n");
  REQUIRE(times.has_value());
  CHECK(*times == ProcessorTimes{15, 0, 115});
}

TEST_CASE("what is not processor times is refused with a sentence") {
  for (const char* text :
       {"", "intr 1 2 3", "cpu 1 2 3", "cpu 1 2 x 4", "cpu 1 2 -3 4", "cpu 1 2 3 99999999999999999999"}) {
    CAPTURE(text);
    const auto times = parse_processor_times(text);
    REQUIRE_FALSE(times.has_value());
    CHECK(times.error().code == ErrorCode::io);
    CHECK_FALSE(times.error().message.empty());
  }
}

TEST_CASE("process ticks: user, kernel and children, whatever the command is called") {
  CHECK(parse_process_ticks("42 (krul) R 1 42 42 0 -1 4194304 7 8 0 0 100 20 3 4 20 0 2 0 5 6 7").value() == 127);
  CHECK(parse_process_ticks("42 (a ) S 9 (b) R 1 42 42 0 -1 4194304 7 8 0 0 100 20 3 4 20 0 2 0").value() == 127);
  for (const char* text : {"", "42 krul R 1", "42 (krul) R 1 2 3", "42 (krul) R 1 42 42 0 -1 0 7 8 0 0 1 2 3 x"}) {
    CAPTURE(text);
    const auto ticks = parse_process_ticks(text);
    REQUIRE_FALSE(ticks.has_value());
    CHECK(ticks.error().code == ErrorCode::io);
  }
}

TEST_CASE("foreign share: what is busy and not ours, and what was stolen") {
  const LoadSample before{{1000, 10, 5000}, 300};
  CHECK(foreign_share(before, {{1180, 10, 5200}, 480}) == 0);                           // all ours
  CHECK(foreign_share(before, {{1180, 10, 5200}, 474}) == doctest::Approx(6.0 / 200));  // 6 ticks of others
  CHECK(foreign_share(before, {{1180, 18, 5200}, 480}) == doctest::Approx(8.0 / 200));  // 8 stolen
  CHECK(foreign_share(before, {{1180, 10, 5200}, 482}) == 0);                           // rounded the other way
  CHECK(foreign_share(before, before) == 0);
  CHECK(foreign_share(before, {{1000, 5, 5100}, 300}) == 0);  // steal counters of some hypervisors step back
}

TEST_CASE("this machine can be read") {
  const auto sample = MachineLoad{}.sample();
  REQUIRE(sample.has_value());
  CHECK(sample->machine.total >= sample->machine.busy + sample->machine.steal);
  const auto twice = MachineLoad{{getpid()}}.sample();
  REQUIRE(twice.has_value());
  CHECK(twice->own >= 2 * sample->own);
  CHECK(MachineLoad{{-1}}.sample().error().code == ErrorCode::io);
  CHECK(describe_machine().cores > 0);
}

TEST_CASE("machine description") {
  const auto machine = parse_machine(
      "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9: x\n\n"
      "processor\t: 1\ncpu family\t: 26\nmodel name\t: other\n",
      "MemTotal:       24563212 kB\nMemFree: 1 kB\n");
  CHECK(machine == MachineDescription{"AMD EPYC 9: x", 25, 17, 2, 24563212ULL * 1024});
  CHECK(describe(machine) == "AMD EPYC 9: x (family 25, model 17), 2 cores, 23.4 GiB");
  CHECK(parse_machine("", "") == MachineDescription{});
  CHECK(describe(MachineDescription{}) == "unknown processor (family 0, model 0), 0 cores, 0.0 GiB");
}

}  // namespace
