#include "krul/cuda/cublas_products.cuh"
#include "krul/cuda/cuda_device.cuh"
#include "krul/cuda/cuda_model.hpp"
#include "krul/cuda/device_backend.hpp"

namespace krul::cuda {
namespace {
using Backend = DeviceBackend<CudaDevice, CublasProducts>;
}

struct CudaKvCache::State {
  Backend::Cache cache;
};
struct CudaBatch::State {
  Backend::Batch batch;
};
struct CudaDecoder::State {
  Backend::Decoder decoder;
};
struct CudaModel::State {
  std::unique_ptr<CudaDevice> device;  // whose address stays
  Backend backend;
};

CudaKvCache::CudaKvCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaKvCache::CudaKvCache(CudaKvCache&&) noexcept = default;
CudaKvCache& CudaKvCache::operator=(CudaKvCache&&) noexcept = default;
CudaKvCache::~CudaKvCache() = default;
std::size_t CudaKvCache::capacity() const {
  return state_->cache.capacity();
}
std::size_t CudaKvCache::length() const {
  return state_->cache.length();
}
const TokenSet& CudaKvCache::present(std::size_t layer) const {
  return state_->cache.present(layer);
}
Ticket CudaKvCache::write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
  return state_->cache.write_kv(layer, tokens, from);
}
Ticket CudaKvCache::read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
  return state_->cache.read_kv(layer, tokens, to);
}
void CudaKvCache::wait(Ticket ticket) const {
  state_->cache.wait(ticket);
}
void CudaKvCache::commit(std::size_t count) {
  state_->cache.commit(count);
}
void CudaKvCache::truncate(std::size_t count) {
  state_->cache.truncate(count);
}

CudaBatch::CudaBatch(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaBatch::CudaBatch(CudaBatch&&) noexcept = default;
CudaBatch& CudaBatch::operator=(CudaBatch&&) noexcept = default;
CudaBatch::~CudaBatch() = default;
void CudaBatch::assign(std::span<const Position> positions) {
  state_->batch.assign(positions);
}
std::span<const Position> CudaBatch::positions() const {
  return std::as_const(state_->batch).positions();
}
void CudaBatch::keep(std::span<const RowRange> rows) {
  state_->batch.keep(rows);
}
std::span<float> CudaBatch::hidden() {
  return state_->batch.hidden();
}

CudaDecoder::CudaDecoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaDecoder::CudaDecoder(CudaDecoder&&) noexcept = default;
CudaDecoder& CudaDecoder::operator=(CudaDecoder&&) noexcept = default;
CudaDecoder::~CudaDecoder() = default;
bool CudaDecoder::takes(std::uint8_t coding) const {
  return state_->decoder.takes(coding);
}
Status CudaDecoder::decode(const StoredChunk& chunk, CudaKvCache& cache) {
  return state_->decoder.decode(chunk, cache.state_->cache);
}
void CudaDecoder::finish() {
  state_->decoder.finish();
}

CudaModel::CudaModel(std::unique_ptr<State> state) : state_(std::move(state)) {}
CudaModel::CudaModel(CudaModel&&) noexcept = default;
CudaModel& CudaModel::operator=(CudaModel&&) noexcept = default;
CudaModel::~CudaModel() = default;

Result<CudaModel> CudaModel::load(GgufFile file, const CudaOptions& options) {
  auto opened = CudaDevice::open(options.device);
  if (!opened) return propagate(opened);
  auto device = std::make_unique<CudaDevice>(std::move(*opened));
  auto products = CublasProducts::open(*device, options.arithmetic);
  if (!products) return propagate(products);
  auto stream = device->make_stream();
  if (!stream) return propagate(stream);
  auto backend =
      Backend::load(std::move(file), *device, std::move(*stream), std::move(*products),
                    {.cache_type = options.cache_type, .tokenizer = options.tokenizer, .limits = options.limits});
  if (!backend) return propagate(backend);
  return CudaModel(std::unique_ptr<State>(new State{std::move(device), std::move(*backend)}));
}

const Geometry& CudaModel::geometry() const {
  return state_->backend.geometry();
}
const Identity& CudaModel::identity() const {
  return state_->backend.identity();
}
CudaKvCache CudaModel::make_cache(std::size_t capacity) const {
  return CudaKvCache(std::unique_ptr<CudaKvCache::State>(new CudaKvCache::State{state_->backend.make_cache(capacity)}));
}
CudaBatch CudaModel::make_batch() const {
  return CudaBatch(std::unique_ptr<CudaBatch::State>(new CudaBatch::State{state_->backend.make_batch()}));
}
CudaDecoder CudaModel::make_decoder(const std::shared_ptr<const Profile>& profile) {
  return CudaDecoder(
      std::unique_ptr<CudaDecoder::State>(new CudaDecoder::State{state_->backend.make_decoder(profile)}));
}
void CudaModel::embed(std::span<const Token> tokens, Batch& batch) {
  state_->backend.embed(tokens, batch.state_->batch);
}
void CudaModel::project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
  state_->backend.project(layer, batch.state_->batch, cache.state_->cache, write);
}
void CudaModel::attend_rows(std::size_t layer, Batch& batch, Cache& cache) {
  state_->backend.attend(layer, batch.state_->batch, cache.state_->cache, NullObserver{});
}
void CudaModel::attend_observed(std::size_t layer, Batch& batch, Cache& cache, const Shown& observer) {
  state_->backend.attend(layer, batch.state_->batch, cache.state_->cache, observer);
}
void CudaModel::finish(std::size_t layer, Batch& batch) {
  state_->backend.finish(layer, batch.state_->batch);
}
void CudaModel::logits(Batch& batch, RowRange rows, std::span<float> out) {
  state_->backend.logits(batch.state_->batch, rows, out);
}

}  // namespace krul::cuda
