#include "krul/strategy/hidden_state_split.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace krul;

TEST_CASE("projecting hidden states takes a sixth of recompute or less, as HCache counts") {
  // C_H = 4 N D^2 and C_tok = 24 N D^2 + N^2 D, so C_tok / C_H = 6 + N / (4 D).
  const double width = 4096;
  for (const double tokens : {0.0, 1024.0, 16384.0}) {
    const double project = 4 * tokens * width * width,
                 recompute = 24 * tokens * width * width + tokens * tokens * width;
    if (tokens > 0) CHECK(recompute / project == doctest::Approx(6 + tokens / (4 * width)));
  }
}

TEST_CASE("the split by hand, when the link is slow and when the compute is") {
  // A layer's states take 3 s to read and 1 s to project, recompute takes 10: 10 layers meet at 10 * 10 / 12 = 8.33.
  const HiddenStateTimes slow_link{3, 6, 1, 10};
  CHECK(balanced_hidden_layers(slow_link, 10) == 9);
  CHECK(hidden_state_split(slow_link, 10, 8, true).seconds() == 28);  // the compute: 8 * 1 + 2 * 10
  CHECK(hidden_state_split(slow_link, 10, 9, true).seconds() == 27);  // the link: 9 * 3
  CHECK(best_hidden_state_split(slow_link, 10).hidden == 9);
  CHECK(best_hidden_state_split(slow_link, 10).others_recompute);
  // States take 1 s to read and 3 to project, K and V 2 s to read: 10 * 2 / 4 = 5.
  const HiddenStateTimes slow_compute{1, 2, 3, 18};
  CHECK(balanced_hidden_layers(slow_compute, 10) == 5);
  const HiddenStateSplit split = best_hidden_state_split(slow_compute, 10);
  CHECK(split.hidden == 5);
  CHECK_FALSE(split.others_recompute);
  CHECK(split.link_s == 15);
  CHECK(split.cores_s == 15);
}

TEST_CASE("the closed form is within one layer of the best split") {
  // It rounds up where the two lanes meet; the optimum is on one side or the other of that point.
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> seconds(0.1, 10);
  for (int i = 0; i < 2000; ++i) {
    const double hidden = seconds(random);
    const double project = seconds(random);
    const HiddenStateTimes times{hidden, 2 * hidden, project, 6 * project + seconds(random)};
    const std::size_t layers = 1 + random() % 80;
    const std::size_t closed = balanced_hidden_layers(times, layers);
    REQUIRE(closed <= layers);
    const bool slow_link = times.read_hidden_s > times.project_hidden_s;
    double near = hidden_state_split(times, layers, closed, slow_link).seconds();
    if (closed > 0) near = std::min(near, hidden_state_split(times, layers, closed - 1, slow_link).seconds());
    REQUIRE(near == doctest::Approx(best_hidden_state_split(times, layers).seconds()));
  }
}
