#include "device_name.hpp"

#include <doctest/doctest.h>

#include <string>

namespace {
using krul::cli::DeviceName;

TEST_CASE("a device is the processor, or a CUDA device by its number") {
  CHECK(DeviceName::parse("cpu").value().is_processor());
  CHECK(DeviceName::parse("cuda").value().cuda_index == 0);
  CHECK(DeviceName::parse("cuda:0").value().cuda_index == 0);
  CHECK(DeviceName::parse("cuda:12").value().cuda_index == 12);
  for (const char* text : {"", "gpu", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda: 1", "cuda1",
                           "cuda:1:2", "cuda:99999999999", " cuda"}) {
    CAPTURE(text);
    CHECK_FALSE(DeviceName::parse(text));
  }
}

TEST_CASE("an option for it says what there is, and is the processor if nobody asks") {
  std::string device = "cpu";
  CLI::App verb;
  krul::cli::add_device(verb, device);
  verb.parse("--device cuda:1");
  CHECK(device == "cuda:1");
  CHECK_THROWS_WITH_AS(verb.parse("--device gpu"),
                       "--device: \"gpu\" is no device: cpu, cuda, or cuda:1 for the second one", CLI::ValidationError);
}

}  // namespace
