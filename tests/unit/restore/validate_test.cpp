#include "krul/restore/validate.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "support/restore_samples.hpp"

using namespace krul;
using namespace krul::testing;

TEST_CASE("every cost must be finite and not negative, and the link must move") {
  const Costs good = realistic_costs(1e9);
  CHECK_NOTHROW(expects_valid(good));
  CHECK_NOTHROW(expects_valid(Costs{}));
  double* (*const fields[])(Costs&) = {[](Costs& c) { return &c.link.latency_s; },
                                       [](Costs& c) { return &c.link.bytes_per_s; },
                                       [](Costs& c) { return &c.link.open_s; },
                                       [](Costs& c) { return &c.link.core_s_per_byte; },
                                       [](Costs& c) { return &c.layer.call_s; },
                                       [](Costs& c) { return &c.layer.project_row_s; },
                                       [](Costs& c) { return &c.layer.finish_row_s; },
                                       [](Costs& c) { return &c.layer.attend_pair_s; },
                                       [](Costs& c) { return &c.layer.attend_key_s; },
                                       [](Costs& c) { return &c.layer.decode_row_s; },
                                       [](Costs& c) { return &c.layer.joint_row_s; },
                                       [](Costs& c) { return &c.pass_s; },
                                       [](Costs& c) { return &c.copy.latency_s; },
                                       [](Costs& c) { return &c.copy.bytes_per_s; },
                                       [](Costs& c) { return &c.open_s; },
                                       [](Costs& c) { return &c.open_s_per_byte; }};
  for (const auto field : fields)
    for (const double bad : {-1e-9, std::nan(""), std::numeric_limits<double>::infinity()}) {
      Costs costs = good;
      *field(costs) = bad;
      CHECK_THROWS_AS(expects_valid(costs), PreconditionError);
    }
  Costs still = good;
  still.link.bytes_per_s = 0;
  CHECK_THROWS_AS(expects_valid(still), PreconditionError);
  still = good;
  still.copy.bytes_per_s = 0;
  CHECK_THROWS_AS(expects_valid(still), PreconditionError);
}

TEST_CASE("cores or a device compute and decode, and a device that decodes computes") {
  const auto placed = [](Resource compute, Resource decode) {
    Costs costs;
    costs.on = {compute, decode};
    return costs;
  };
  CHECK_NOTHROW(expects_valid(placed(Resource::device, Resource::cores)));
  CHECK_NOTHROW(expects_valid(placed(Resource::device, Resource::device)));
  CHECK_THROWS_AS(expects_valid(placed(Resource::cores, Resource::device)), PreconditionError);
  CHECK_THROWS_AS(expects_valid(placed(Resource::link, Resource::cores)), PreconditionError);
  CHECK_THROWS_AS(expects_valid(placed(Resource::device, Resource::copy)), PreconditionError);
}

TEST_CASE("sizes need a prompt, a block length, a layer, and an entry for every block") {
  const RestoreSizes good = realistic_sizes(1000);
  CHECK_NOTHROW(expects_valid(good));
  CHECK_NOTHROW(expects_valid(realistic_sizes(0)));
  const auto refuses = [&](auto&& spoil) {
    RestoreSizes sizes = good;
    spoil(sizes);
    CHECK_THROWS_AS(expects_valid(sizes), PreconditionError);
  };
  refuses([](RestoreSizes& s) { s.prompt = 0; });
  refuses([](RestoreSizes& s) { s.block = 0; });
  refuses([](RestoreSizes& s) { s.layers.clear(); });
  refuses([](RestoreSizes& s) { s.layers[3].block_bytes.pop_back(); });
  refuses([](RestoreSizes& s) { s.layers[29].block_object.push_back(0); });
  refuses([](RestoreSizes& s) { s.layers[3].group_layers = 0; });
  refuses([](RestoreSizes& s) { s.layers[3].group_index = 1; });
  refuses([](RestoreSizes& s) { s.layers[0].group_index = 1, s.layers[0].group_layers = 2; });
  refuses([](RestoreSizes& s) { s.layers[3].joint_share = 1.5; });
  refuses([](RestoreSizes& s) { s.layers[3].joint_share = std::nan(""); });
  refuses([](RestoreSizes& s) { s.layers[3].projected_share = 1.5; });
  refuses([](RestoreSizes& s) { s.history = 2000; });
}
