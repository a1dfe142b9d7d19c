#include "krul/simulate/trace_replay.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace krul;
using namespace krul::simulate;

namespace {

Scene a_scene() {
  Hardware hardware;
  REQUIRE(find_hardware("a100-pcie4", hardware));
  return device_scene(*model_shape("llama-7b"), hardware, 2000, 128);
}

/// A conversation of two turns, and one that was saved before.
std::vector<Arrival> arrivals() {
  return {{.at_s = 0, .conversation = 0, .prompt = 500, .output = 4},
          {.at_s = 1, .conversation = 1, .history = 900, .prompt = 100, .output = 1, .saved = true},
          {.at_s = 9, .conversation = 0, .history = 504, .prompt = 96, .output = 2}};
}

}  // namespace

TEST_CASE("arrivals become jobs that take what their restores take alone") {
  const SimulatedStrategy& load = *simulated_strategy("load-f16");
  const auto jobs = jobs_of(arrivals(), a_scene(), load);
  REQUIRE(jobs.size() == 3);
  CHECK_FALSE(jobs[0].has_history);
  CHECK(jobs[0].restored.link_s == 0);
  const Prediction restore = load.simulate(at_length(a_scene(), 900, 100)).predicted;
  CHECK(jobs[1].restored.first_token_s == restore.first_token_s);
  CHECK(jobs[1].restored.link_s == restore.busy[Resource::link]);
  CHECK(jobs[1].recomputed.first_token_s > 0);
  CHECK(jobs[1].recomputed.link_s == 0);
  CHECK(jobs[1].tokens == 1001);
  CHECK(jobs[1].stored_bytes == doctest::Approx(1001 * 512 * 1024));
  for (const Job& job : jobs_of(arrivals(), a_scene(), *simulated_strategy("recompute"))) CHECK(job.stored_bytes == 0);
}

TEST_CASE("a load below 1 keeps a share of the conversations whole, above 1 all come faster") {
  std::vector<Job> jobs;
  for (std::size_t i = 0; i < 2000; ++i) {
    Job& job = jobs.emplace_back();
    job.at_s = static_cast<double>(i);
    job.conversation = i % 1000;
  }
  const auto some = at_load(jobs, 0.25), fast = at_load(jobs, 2);
  CHECK(some.size() == doctest::Approx(500).epsilon(0.02));
  std::multiset<std::size_t> kept;
  for (const Job& job : some) kept.insert(job.conversation);
  for (const std::size_t conversation : kept) CHECK(kept.count(conversation) == 2);
  CHECK(at_load(jobs, 1).size() == jobs.size());
  REQUIRE(fast.size() == jobs.size());
  CHECK(fast.back().at_s == jobs.back().at_s / 2);
  CHECK(at_load(std::span(jobs).subspan(1, 1), 1e-9).empty());
}

TEST_CASE("what a server made of its jobs") {
  const Server server = server_of(a_scene(), {.device_tokens = 2000, .host_bytes = 1e12});
  CHECK(server.decode_step_s > 0);
  const auto jobs = jobs_of(arrivals(), a_scene(), *simulated_strategy("load-f16"));
  const auto served = serve(jobs, server);
  REQUIRE(served);
  CHECK(served->wait_s.size() == 3);
  CHECK(served->returning_wait_s.size() == 2);
  CHECK(served->refused == 0);
  CHECK(served->restored == 2);
  CHECK(served->lost == 0);
  CHECK(served->requests_per_s == doctest::Approx(2. / 9));  // the third ends after the last arrival
  CHECK(served->compute_share > 0);
  CHECK(served->link_share < 1);
  // Without host memory the turn that was not saved before is lost; a small device refuses the longest.
  CHECK(serve(jobs, server_of(a_scene(), {2000, 0}))->lost == 1);
  CHECK(serve(jobs, server_of(a_scene(), {700, 1e12}))->refused == 1);
  const auto none = serve(jobs, server_of(a_scene(), {10, 1e12}));
  REQUIRE_FALSE(none);
  CHECK(none.error().code == ErrorCode::too_large);
  CHECK_THROWS_AS(static_cast<void>(serve({}, server)), PreconditionError);
}
