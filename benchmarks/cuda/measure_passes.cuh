#pragma once

#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device_timer.cuh"
#include "drawn_model.hpp"
#include "krul/cuda/cublas_products.cuh"
#include "krul/cuda/device_backend.hpp"
#include "krul/simulate/device_costs.hpp"
#include "krul/simulate/pass_work.hpp"
#include "measure_copies.cuh"
#include "products_alone.cuh"
#include "result_table.hpp"

namespace krul::bench {

/// Passes of a drawn model with some of the layers of its shape.
class DrawnPasses {
 public:
  using Backend = cuda::DeviceBackend<cuda::CudaDevice, cuda::CublasProducts>;
  static constexpr std::size_t most_tokens = 4096;

  DrawnPasses(cuda::CudaDevice& device, DeviceTimer& timer, const DrawnModel& model)
      : timer_(timer),
        backend_(or_throw(Backend::load(or_throw(GgufFile::from_memory(model.bytes(), "drawn")), device, timer.stream(),
                                        or_throw(cuda::CublasProducts::open(device, ElementType::bf16)),
                                        {.cache_type = ElementType::f16}))),
        cache_(backend_.make_cache(most_tokens + 1)),
        batch_(backend_.make_batch()) {}

  struct Seconds {
    double begin = 0, layers = 0, logits = 0;
  };
  /// @pre the cache has the history's rows
  [[nodiscard]] Seconds measure(const simulate::PassSize& pass) {
    std::vector<Position> positions(pass.rows);
    std::iota(positions.begin(), positions.end(), static_cast<Position>(pass.history));
    std::vector<Token> tokens(pass.rows);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<Token>(i * 37 % 30000);
    std::vector<float> logits(backend_.geometry().vocabulary);
    Seconds seconds;
    // What embed lends goes to the device with the next step: it is asked for here.
    seconds.begin = timer_.median_s([&] {
      batch_.assign(positions);
      backend_.embed(tokens, batch_);
      batch_.settle();
    });
    seconds.layers = timer_.median_s([&] {
      for (std::size_t layer = 0; layer < backend_.geometry().layers; ++layer) {
        backend_.project(layer, batch_, cache_, KvWrite::all);
        backend_.attend(layer, batch_, cache_, NullObserver{});
        backend_.finish(layer, batch_);
      }
    });
    seconds.logits = timer_.median_s([&] { backend_.logits(batch_, {pass.rows - 1, pass.rows}, logits); });
    return seconds;
  }

 private:
  DeviceTimer& timer_;
  Backend backend_;
  Backend::Cache cache_;
  Backend::Batch batch_;
};

/// What a model's passes are judged by.
struct PassRoofs {
  CopyRates copies;
  const simulate::Hardware* like = nullptr;  ///< whose costs krul simulate counts with; null: none is like it
};

/// Prefill and decode with `layers` of a model's layers; the time of these is then multiplied to that of all, as they
/// are alike. @throws ResultError if the device fails or has no room
inline void measure_passes(cuda::CudaDevice& device, const simulate::ModelShape& shape, std::size_t layers,
                           const PassRoofs& roofs, ResultTable& table) {
  const DrawnModel model(shape, layers);
  DeviceTimer timer(or_throw(device.make_stream()));
  // In the order in which the cache comes to have the rows.
  constexpr simulate::PassSize passes[] = {{0, 4096}, {0, 1024}, {0, 128}, {128, 1}, {4096, 1}};
  std::vector<double> products_s;
  double peak = 0;
  {
    ProductsAlone alone(device, shape, model.bytes());
    for (const simulate::PassSize& pass : passes) products_s.push_back(alone.layer_s(timer, pass.rows));
    peak = alone.peak_flops(timer);
  }
  DrawnPasses drawn(device, timer, model);
  const double all = static_cast<double>(shape.layers), some = static_cast<double>(layers);
  for (std::size_t i = 0; i < std::size(passes); ++i) {
    const simulate::PassSize& pass = passes[i];
    const auto seconds = drawn.measure(pass);
    const double total = seconds.begin + seconds.layers * all / some + seconds.logits;
    const auto work = simulate::PassWork::of(shape, pass);
    const double flops = work.flops() / total, bytes = work.bytes / total;
    const std::string simulated =
        roofs.like == nullptr
            ? ""
            : number_text(simulate::pass_s(simulate::device_costs(shape, *roofs.like), shape.layers, pass) * 1e3);
    table.add({std::string(shape.name), std::to_string(layers), std::to_string(pass.history), std::to_string(pass.rows),
               number_text(total * 1e3), simulated, number_text(static_cast<double>(pass.rows) / total),
               number_text(seconds.begin * 1e3), number_text(seconds.layers / some * 1e3),
               number_text(seconds.logits * 1e3), number_text(products_s[i] * 1e3), number_text(flops / 1e12),
               number_text(flops / peak), number_text(bytes / 1e9), number_text(bytes / roofs.copies.memory)});
  }
}

}  // namespace krul::bench
