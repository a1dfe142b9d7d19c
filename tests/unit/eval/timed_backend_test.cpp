#include "krul/eval/timed_backend.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/model/cpu_backend.hpp"
#include "support/tiny_model.hpp"

using namespace krul;

TEST_CASE("a timed backend computes what the other one does, and counts rows and keys of each step") {
  const krul::testing::TinyModel options{.layers = 2};
  const auto bytes = krul::testing::tiny_model(options);
  auto model = *CpuBackend<EigenKernels>::load(*GgufFile::from_memory(bytes, "tiny.gguf"), EigenKernels{},
                                               {.threads = 1, .cache_type = ElementType::f32});
  const std::vector<Token> tokens{1, 2, 3, 4, 5};
  std::vector<float> expected(model.geometry().vocabulary), logits(expected.size());
  auto batch = model.make_batch();
  auto cache = model.make_cache(5);
  forward(model, cache, batch, tokens, expected);

  const ManualClock clock;
  eval::TimedBackend timed(model, clock);
  static_assert(ModelBackend<decltype(timed)>);
  cache.truncate(0);
  forward(timed, cache, batch, tokens, logits);
  CHECK(logits == expected);
  const auto figures = timed.take_figures();
  CHECK(figures.embed.rows == 5);
  CHECK(figures.project.calls == 2);
  CHECK(figures.project.rows == 10);
  CHECK(figures.attend.rows == 6);  // the last layer goes on with one row
  CHECK(figures.attend.keys == 1 + 2 + 3 + 4 + 5 + 5);
  CHECK(figures.attend.all_keys == 10);
  CHECK(figures.finish.rows == 6);
  CHECK(figures.logits.rows == 1);
  CHECK(figures.finish.seconds == 0);  // nobody moved the clock
  CHECK(timed.take_figures().project.calls == 0);
}
