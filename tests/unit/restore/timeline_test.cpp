#include "krul/restore/timeline.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <nlohmann/json.hpp>

using namespace krul;

TEST_CASE("a trace parses, names its lanes, and keeps every event to the nanosecond") {
  Timeline timeline;
  timeline.add({Resource::link, "read", 3, 0, 0.0125});
  timeline.add(
      {Resource::cores, "quote \" backslash \\ newline \n \x01 \xc3\xa9", std::nullopt, 1.000000001, 123456.789});
  const auto trace = nlohmann::json::parse(chrome_trace(timeline, "a \"title\""));

  const auto& events = trace.at("traceEvents");
  REQUIRE(events.size() == 5);
  CHECK(events[0].at("name") == "process_name");
  CHECK(events[0].at("args").at("name") == "a \"title\"");
  CHECK(events[1].at("args").at("name") == "link");
  CHECK(events[2].at("args").at("name") == "cores");

  CHECK(events[3].at("ph") == "X");
  CHECK(events[3].at("tid") == events[1].at("tid"));
  CHECK(events[3].at("args").at("layer") == 3);
  CHECK(events[3].at("dur").get<double>() == doctest::Approx(12500).epsilon(1e-12));
  CHECK(events[4].at("name") == timeline.events()[1].name);
  CHECK(events[4].at("tid") == events[2].at("tid"));
  CHECK(!events[4].contains("args"));
  CHECK(events[4].at("ts").get<double>() == doctest::Approx(1000000.001).epsilon(1e-15));
  CHECK(events[4].at("dur").get<double>() == doctest::Approx(123455788999.999).epsilon(1e-14));
}

TEST_CASE("a device has rows of its own where it works, and busy times are sums") {
  Timeline timeline;
  timeline.add({Resource::copy, "copy", 0, 1, 3});
  timeline.add({Resource::device, "attend", 0, 3, 7});
  timeline.add({Resource::device, "finish", 0, 8, 9});
  CHECK(timeline.busy_s(Resource::link) == 0);
  CHECK(timeline.busy_s(Resource::copy) == 2);
  CHECK(timeline.busy_s(Resource::device) == 5);
  const auto trace = nlohmann::json::parse(chrome_trace(timeline));
  const auto& events = trace.at("traceEvents");
  REQUIRE(events.size() == 1 + 4 + 3);
  CHECK(events[3].at("args").at("name") == "copy");
  CHECK(events[4].at("args").at("name") == "device");
  CHECK(events[5].at("tid") == events[3].at("tid"));
}

TEST_CASE("an empty timeline is still a trace") {
  CHECK(nlohmann::json::parse(chrome_trace({})).at("traceEvents").size() == 3);
}

TEST_CASE("an event must end after it begins, at finite times") {
  Timeline timeline;
  CHECK_THROWS_AS(timeline.add({Resource::link, "read", 0, 2, 1}), PreconditionError);
  CHECK_THROWS_AS(timeline.add({Resource::link, "read", 0, std::nan(""), 1}), PreconditionError);
  CHECK_THROWS_AS(timeline.add({Resource::link, "read", 0, 0, std::numeric_limits<double>::infinity()}),
                  PreconditionError);
  CHECK(timeline.events().empty());
  CHECK_NOTHROW(timeline.add({Resource::link, "read", 0, 1, 1}));
}
