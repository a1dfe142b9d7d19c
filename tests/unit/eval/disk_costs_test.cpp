#include "krul/eval/disk_costs.hpp"
#include "krul/compress/int8_codec.hpp"

#include <doctest/doctest.h>

#include "krul/store/conversation_key.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/temporary_directory.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul::eval {
namespace {

TEST_CASE("a disk for a while: saved, read again after it was cooled, and gone") {
  const test::TemporaryDirectory folder;
  {
    auto disk = ScratchDisk::make(folder.path() / "place");
    REQUIRE(disk);
    const std::string key = conversation_folder("a").value() + "/object";
    const std::vector<std::byte> bytes(100, std::byte{7});
    REQUIRE(disk->store().put(key, bytes));
    disk->cool();
    CHECK(disk->store().size(key).value() == 100);
    CHECK_FALSE(std::filesystem::is_empty(folder.path() / "place"));
  }
  CHECK(std::filesystem::is_empty(folder.path() / "place"));
  CHECK_FALSE(ScratchDisk::make("/dev/null/place"));
}

TEST_CASE("behind the disk lies the disk, behind any other link memory") {
  const test::TemporaryDirectory folder;
  ScratchStores stores{ScratchDisk::make(folder.path()).value()};
  CHECK(&stores.behind(parse_link("disk").value()) == &stores.disk.store());
  for (const char* link : {"memory", "50MB/s"}) CHECK(&stores.behind(parse_link(link).value()) == &stores.memory);
}

TEST_CASE("what is missing of a disk's costs is added, and nothing is left there") {
  toy::Backend model{ElementType::f16};
  const test::TemporaryDirectory folder;
  const std::vector<AnyStrategy> strategies = {strategy::load(Int8Codec{})};
  const CostMeasurement how{.seconds = 1, .longest = 64, .prompt = 4, .rounds = 2};
  const auto add = [&](std::optional<MachineCosts>& costs, const std::filesystem::path& place) {
    return add_missing_on_disk<toy::Backend, test::TickingClock, QuietMachine>(costs, model, strategies, place, how);
  };
  std::optional<MachineCosts> costs;
  REQUIRE(add(costs, folder.path()));
  REQUIRE(costs);
  CHECK(costs->costs.link.bytes_per_s > 0);
  CHECK(missing_codings(costs, strategies, model.geometry().layers).empty());
  CHECK(std::filesystem::is_empty(folder.path()));
  const double measured_s = costs->measured_s;
  REQUIRE(add(costs, folder.path()));  // nothing is missing
  CHECK(costs->measured_s == measured_s);
  costs.reset();
  CHECK_FALSE(add(costs, "/dev/null/place"));
}

}  // namespace
}  // namespace krul::eval
