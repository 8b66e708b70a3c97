# docker build -t phasebench . && docker run --rm --gpus all -v "$PWD/outputs:/phasebench/outputs" phasebench bench=all
#
# The tested versions on CPython 3.12, with torch's own CUDA; the host needs NVIDIA's driver and container toolkit. Triton
# compiles the fused kernels with the C compiler that is installed here.
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /phasebench
COPY pyproject.toml constraints.txt README.md LICENSE runner.py ./
COPY conf conf
COPY src src
RUN pip install --no-cache-dir -c constraints.txt -e ".[gpt,peers,tensorboard]"
ENTRYPOINT ["python", "runner.py"]
CMD ["--help"]
