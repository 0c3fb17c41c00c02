"""The files that people deploy with: cluster.yaml, deploy/rayjob.yaml and deploy/kaggle-two-t4.ipynb."""
