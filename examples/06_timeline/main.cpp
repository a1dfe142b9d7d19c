// What each resource does during a restore: the link reads, the cores recompute. One line for each layer and resource,
// one character for 5 ms. With a file name, it also writes a Chrome trace that opens in Perfetto.

#include <cstdio>
#include <fstream>
#include <krul/restore/restoration_scheduler.hpp>

void draw(const char* title, const krul::Timeline& timeline, std::size_t layers) {
  std::printf("%s\n", title);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (const auto resource : {krul::Resource::link, krul::Resource::cores}) {
      std::string bar(80, ' ');
      for (const auto& event : timeline.events())
        if (event.resource == resource && event.layer == layer)
          for (double at = event.begin_s; at < event.end_s; at += 0.001)
            bar[std::min<std::size_t>(static_cast<std::size_t>(at / 0.005), bar.size() - 1)] =
                resource == krul::Resource::link ? '=' : '#';
      bar.erase(bar.find_last_not_of(' ') + 1);
      std::printf("%zu %-5.*s|%s\n", layer, static_cast<int>(krul::name(resource).size()), krul::name(resource).data(),
                  bar.c_str());
    }
  }
}

int main(int count, char** arguments) {
  const krul::StoredLayer layer{std::vector<std::uint64_t>(16, 196608), std::vector<std::uint32_t>(16, 0)};
  const krul::RestoreSizes sizes{.history = 1024, .prompt = 32, .block = 64, .layers = std::vector(6, layer)};
  const krul::Costs costs{.link = {.latency_s = 1e-3, .bytes_per_s = 50e6},
                          .layer = {.call_s = 1e-3,
                                    .project_row_s = 20e-6,
                                    .finish_row_s = 60e-6,
                                    .attend_pair_s = 20e-9,
                                    .attend_key_s = 1e-6},
                          .pass_s = 5e-3};
  const auto load = krul::RestorationScheduler<krul::FullLoad>{}.plan(sizes, costs);
  const auto pyramid = krul::RestorationScheduler<krul::Pyramid>{}.plan(sizes, costs);
  draw("everything loaded", krul::predict_timeline(load, sizes, costs), 6);
  const krul::Timeline timeline = krul::predict_timeline(pyramid, sizes, costs);
  draw("a recomputed prefix that shrinks with depth", timeline, 6);
  if (count > 1) std::ofstream(arguments[1]) << krul::chrome_trace(timeline, "pyramid");
}
